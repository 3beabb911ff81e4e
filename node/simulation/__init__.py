"""Deterministic simulation of a network of validators.

The production engine, replica, journal format, sync, ledger and mempool run in one thread under a
virtual clock, network and disk. One seed is one whole run: who the validators are, what breaks and
when, in which order simultaneous events happen. Running a seed again gives the same run, event for
event.

    report = node.simulation.campaign.simulate(seeds=1_000)
    report.violations          empty, or what broke, with the shortest plan of faults found

Reading order: setup and faults (what a run is), run (its phases), invariants (what must hold),
machine, network, disk (the world), byzantine and forger (who lies).
"""
