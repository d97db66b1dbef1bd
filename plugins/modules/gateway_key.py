# Copyright: Contributors to the gatewayops.openai project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_key
short_description: Make, rotate and revoke the key of a consumer in the store
version_added: 0.1.0
description:
  - Keeps the keys of one consumer in a secret of Vault or OpenBao, with the fields C(current), C(current_created_at),
    C(previous) and C(previous_expires_at). A specification refers to both keys, as in
    V([vault://kv/consumers/search#current, vault://kv/consumers/search#previous]), so that the consumer can move from
    one to the other while both are valid.
  - Runs on the controller and connects to no host. Use it in a play on C(localhost), or with C(run_once).
  - Gateways know of a change with the next run of C(gatewayops.openai.rotate) or C(gatewayops.openai.site). That goes
    for the end of the previous key, too.
  - Each write is a check-and-set, so that of several controllers that want the same one makes the key, and the others
    take it for theirs.
  - The value of a key is never returned. With O(wrap_ttl) a token is, that whoever gets the key exchanges for it, once.
author:
  - GatewayOps maintainers (@gatewayops)
extends_documentation_fragment:
  - gatewayops.openai.vault
  - gatewayops.openai.aws
options:
  path:
    description:
      - The secret, as C(MOUNT/PATH), such as V(kv/consumers/search).
      - It has to be in a key-value engine of version 2. Other fields of it are kept.
    type: str
    required: true
  state:
    description:
      - V(present) makes a key where there is none, and removes a previous key that has ended. With O(max_age) it
        rotates a key that is older.
      - V(rotated) makes the current key the previous one, which ends after O(grace), and makes a new one. While the
        previous key of an earlier rotation is valid, nothing is done, unless O(force) says so.
      - V(absent) takes both keys back. Their fields stay and are empty, so that references to them stay right.
      - A secret with C(current) that was made by hand is taken over with V(present) and V(rotated). Its age counts from
        then, and a previous key in it that has no end gets one after O(grace).
    type: str
    choices: [present, rotated, absent]
    default: present
  grace:
    description: How long a key that was rotated stays valid, such as V(24h), V(7d), V(30m) or V(20s); V(0s) ends it at
      once.
    type: str
    default: 24h
  max_age:
    description:
      - The age at which a key is rotated, such as V(90d). Without it, a key has no age to be rotated at.
      - Must be longer than O(grace).
    type: str
  force:
    description: Rotate although the previous key is valid, which ends with that.
    type: bool
    default: false
  prefix:
    description: What a new key begins with, so that scanners for leaked secrets can know it.
    type: str
    default: sk-gw-
  bytes:
    description: The number of random bytes in a new key, from 16 to 512.
    type: int
    default: 32
  wrap_ttl:
    description:
      - Return a response-wrapping token with the current key in it, which can be unwrapped once within this time, such
        as V(1h). It is returned whether or not something changed.
      - Nothing is wrapped in check mode, nor with O(state=absent).
    type: str
notes:
  - An option that the task does not give is the variable of the same name with C(gateway_key_) before it.
  - The policy must allow C(create), C(update) and C(read) on the data path of the secret, such as
    C(path "kv/data/consumers/*" { capabilities = ["create", "update", "read"] }).
    Wrapping is allowed by the policy C(default) of Vault and OpenBao.
  - Earlier versions of the secret, which the store keeps, hold earlier keys. No gateway takes them.
  - The wrapped token lets whoever has it first have the key. So the result of a task with O(wrap_ttl) is registered and
    not shown; put C(no_log) on each task that uses it.
attributes:
  check_mode:
    support: full
    description: Reads the secret, predicts what happens, and writes nothing.
  diff_mode:
    support: full
    description: Shows which fields change, and times. Of a key only that there is one.
  platform:
    support: full
    description: Runs on the controller.
    platforms: posix
seealso:
  - module: gatewayops.openai.gateway
"""

EXAMPLES = r"""
- name: Keys of all consumers
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Make those that are missing, and rotate what is older than 90 days
      gatewayops.openai.gateway_key:
        path: "kv/consumers/{{ item }}"
        max_age: 90d
        grace: 7d
      loop: [search, batch]

    - name: Rotate a key that may have been seen by others, and let the old one end within an hour
      gatewayops.openai.gateway_key:
        path: kv/consumers/search
        state: rotated
        grace: 1h
        force: true

    - name: Take the keys of a consumer back
      gatewayops.openai.gateway_key:
        path: kv/consumers/former
        state: absent

    - name: Have the key of a new consumer wrapped
      gatewayops.openai.gateway_key:
        path: kv/consumers/search
        wrap_ttl: 24h
      register: key

    - name: Write the token to a file that the consumer gets, who runs bao unwrap with it
      ansible.builtin.copy:
        content: "{{ key.wrapped_token }}"
        dest: ./search.token
        mode: "0600"
      no_log: true
      diff: false
"""

RETURN = r"""
path:
  description: The secret.
  type: str
  returned: success
  sample: kv/consumers/search
version:
  description: The version of the secret that is the newest, or in check mode would be; 0 when there is none.
  type: int
  returned: success
created_at:
  description: When the current key was made; empty when there is none.
  type: str
  returned: success
  sample: "2026-03-01T12:00:00Z"
previous_expires_at:
  description: When the previous key ends; empty when there is none.
  type: str
  returned: success
message:
  description: What was done and why, or in check mode would be.
  type: str
  returned: success
  sample: rotated; the previous key is valid until 2026-03-02T12:00:00Z
wrapped_token:
  description: Token with the current key, in the field C(api_key), that C(bao unwrap) or C(vault unwrap) takes once.
  type: str
  returned: with O(wrap_ttl), not in check mode
wrapped_until:
  description: When the token ends.
  type: str
  returned: with O(wrap_ttl), not in check mode
"""
