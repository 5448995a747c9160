from __future__ import annotations

import os

from kubectl_vmredir.agent.variables import MAX_NAMES, Variables

ORDINARY = {
    "HOME": "/home/alice",
    "PATH": "/bin",
    "LC_ALL": "C",
    "SSH_AUTH_SOCK": "/run/1",
    "KUBECONFIG": "/c",
    "_": "/usr/bin/env",
}
PROFILE = {**ORDINARY, "AWS_PROFILE": "prod"}


def test_names_are_those_that_not_every_shell_has() -> None:
    variables = Variables({})

    variables.bind({**PROFILE, "VAULT_TOKEN": "s3cret", "a b": "x", "BASH_FUNC_f%%": "() {"})

    assert variables.names == ("AWS_PROFILE", "VAULT_TOKEN")


def test_names_are_bounded() -> None:
    variables = Variables({})

    variables.bind({f"V{number}": "" for number in range(MAX_NAMES * 2)})

    assert len(variables.names) == MAX_NAMES


def test_shell_that_lacks_what_the_one_that_bound_had_changes_nothing() -> None:
    variables = Variables({})
    variables.bind(PROFILE)

    variables.offer({**ORDINARY, "EDITOR": "vi"})

    assert variables.values == PROFILE


def test_shell_that_has_all_of_it_is_newer() -> None:
    variables = Variables({})
    variables.bind(PROFILE)

    variables.offer({**PROFILE, "AWS_PROFILE": "fresh"})

    assert variables.values["AWS_PROFILE"] == "fresh"


def test_after_a_restart_the_shell_that_lacks_less_is_taken() -> None:
    variables = Variables(ORDINARY, ("AWS_PROFILE", "AWS_REGION"))
    held = variables.values

    variables.offer(PROFILE)
    variables.offer(ORDINARY)

    assert variables.values == PROFILE
    assert variables.values is held


def test_who_binds_again_is_the_one_that_counts() -> None:
    variables = Variables({})
    variables.bind(PROFILE)

    variables.bind(ORDINARY)

    assert (variables.values, variables.names) == (ORDINARY, ())


def test_variables_of_this_shell_are_taken_as_they_are() -> None:
    assert Variables(os.environ).values == dict(os.environ)
