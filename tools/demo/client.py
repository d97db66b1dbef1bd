"""Talk to the gateway as an application does: with the official OpenAI client.

    python client.py BASE_URL MODEL            with the API key on standard input
    python client.py BASE_URL MODEL --once     one chat completion, and who answered it

Runs in the demo's environment, which has the package `openai`.
"""

from __future__ import annotations

import sys
import time

import openai
from openai.types.chat import ChatCompletion

QUESTION = "Which model am I talking to?"


def main() -> int:
    base_url, model, *once = sys.argv[1:]
    key = sys.stdin.readline().strip()
    with openai.OpenAI(base_url=base_url, api_key=key, timeout=30, max_retries=0) as client:
        try:
            if once:
                print(f"answered by:          {chat(client, model).system_fingerprint}")
            else:
                converse(client, model)
                refuse(client, model)
        except openai.OpenAIError as error:
            print(f"The gateway did not do what it should: {type(error).__name__}: {error}")
            return 1
    return 0


def chat(client: openai.OpenAI, model: str) -> ChatCompletion:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": QUESTION}])


def converse(client: openai.OpenAI, model: str) -> None:
    listed = ", ".join(sorted(entry.id for entry in client.models.list()))
    print(f"models of this key:   {listed}")

    answer = chat(client, model)
    tokens = answer.usage.total_tokens if answer.usage else 0
    print(f"chat completion:      {answer.choices[0].message.content!r}, {tokens} tokens")

    began = time.monotonic()
    print("stream:              ", end="", flush=True)
    events = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        extra_body={"x_delay": 0.1},
    )
    pieces = 0
    for event in events:
        text = event.choices[0].delta.content if event.choices else None
        if text:
            print(f" [{time.monotonic() - began:.1f} s]{text}", end="", flush=True)
            pieces += 1
    print()
    if pieces < 2 or time.monotonic() - began < 0.1 * (pieces - 1):
        raise openai.OpenAIError("the stream did not arrive piece by piece")


def refuse(client: openai.OpenAI, model: str) -> None:
    try:
        client.with_options(api_key="sk-not-a-key").models.list()
    except openai.AuthenticationError:
        print("a wrong key:          refused with 401")
    else:
        raise openai.OpenAIError("a wrong key was let in")
    try:
        chat(client, f"not-{model}")
    except openai.NotFoundError:
        print("an unknown model:     refused with 404")
    else:
        raise openai.OpenAIError("an unknown model was answered")


if __name__ == "__main__":
    sys.exit(main())
