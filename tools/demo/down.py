"""`make demo-down`: stop what the demo started, and remove what it made."""

from __future__ import annotations

from tools.demo import places, processes
from tools.demo.places import HOME
from tools.demo.say import note, step

# Longer than Envoy takes to finish the requests it has.
GATEWAY_PATIENCE = 20.0


def down() -> None:
    known = places.read()
    where = [HOME, known.memory if known else places.memory_for_this_checkout()]
    with step("Stopping the demo; Envoy lets its connections end, which takes some seconds"):
        # Supervisors first: they stop what they started, in order, and would otherwise start it again.
        supervisors = [process for process in processes.running(where) if process.supervises]
        killed = processes.end(supervisors, patience=GATEWAY_PATIENCE)
        # A supervisor waits for what it runs, Envoy's for the requests in it; whatever is left lost its supervisor.
        left = processes.running(where)
        killed += processes.end(left, patience=GATEWAY_PATIENCE)
        note(f"ended {len(supervisors)} supervisors and what they ran; {len(left)} other processes were left")
        for process in killed:
            note(f"had to kill {process.program} (pid {process.pid})")
    with step("Removing its files"):
        for directory in places.remove(known):
            note(f"removed {directory}")
