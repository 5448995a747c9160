"""virt-controller and the scheduler: from VM to VMI to pod, and the phases of a migration.

Each controller is a pure function from what is to the next write, so it does not matter when it was
started, or what it did before: ``manager.py`` asks all of them at every change.
"""
