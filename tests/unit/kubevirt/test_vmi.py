from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.kubevirt.vmi import essence_of_vmi, vmi_view, vmim_view
from kubectl_vmredir.model import MigrationUid, MigrationView, VmimView, VmiRef, VmiUid, VmiView
from kubectl_vmredir.service.slot_names import DEFAULT_SLOTS, parse_slot_names

TRACES = Path(__file__).parents[2] / "data" / "traces"


def vmi(
    *,
    devices: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
    status: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "kind": "VirtualMachineInstance",
        "metadata": {
            "namespace": "demo",
            "name": "desk",
            "uid": "u1",
            "annotations": annotations,
        },
        "spec": {"architecture": "amd64", "domain": {"devices": devices or {}}},
        "status": status or {},
    }


def test_vmi_is_read() -> None:
    found = vmi_view(
        vmi(
            devices={"clientPassthrough": {}},
            status={
                "phase": "Running",
                "nodeName": "node1",
                "conditions": [
                    {"type": "Ready", "status": "True"},
                    {
                        "type": "LiveMigratable",
                        "status": "False",
                        "reason": "DisksNotLiveMigratable",
                    },
                ],
            },
        )
    )

    assert found == VmiView(
        ref=VmiRef("demo", "desk"),
        uid=VmiUid("u1"),
        phase="Running",
        node="node1",
        client_passthrough=True,
        slots=("usb0", "usb1", "usb2", "usb3"),
        migratable=False,
        architecture="amd64",
    )


def test_vmi_without_passthrough_has_no_slots() -> None:
    found = vmi_view(vmi(annotations={"vmredir.io/slots": "flash"}))

    assert not found.client_passthrough
    assert found.slots == ()


def test_vmi_that_is_going_is_marked() -> None:
    going = vmi()
    going["metadata"]["deletionTimestamp"] = "2026-11-23T08:43:11Z"

    assert vmi_view(going).deleting


@pytest.mark.parametrize(
    ("conditions", "migratable"),
    [
        ([{"type": "LiveMigratable", "status": "True"}], True),
        ([{"type": "LiveMigratable", "status": "Unknown"}], None),
        ([{"type": "Ready", "status": "True"}], None),
        (None, None),
        (["nonsense"], None),
    ],
)
def test_migratable_is_unknown_until_it_is_said(
    conditions: object, migratable: bool | None
) -> None:
    assert vmi_view(vmi(status={"conditions": conditions})).migratable is migratable


# Keys of migrationState as in kubevirt.io/api/core/v1, types.go.
def test_migration_is_read() -> None:
    state = {
        "migrationUid": "m1",
        "sourceNode": "node1",
        "targetNode": "node2",
        "sourcePod": "virt-launcher-desk-a",
        "targetPod": "virt-launcher-desk-b",
        "startTimestamp": "2026-11-23T08:43:14Z",
        "targetNodeDomainDetected": True,
        "targetNodeDomainReadyTimestamp": "2026-11-23T08:43:15Z",
        "endTimestamp": "2026-11-23T08:43:16Z",
        "mode": "PreCopy",
        "completed": True,
        "failed": True,
        "abortRequested": True,
        "abortStatus": "Succeeded",
        "failureReason": "out of\npatience",
    }

    assert vmi_view(vmi(status={"migrationState": state})).migration == MigrationView(
        uid=MigrationUid("m1"),
        source_node="node1",
        target_node="node2",
        source_pod="virt-launcher-desk-a",
        target_pod="virt-launcher-desk-b",
        start_timestamp="2026-11-23T08:43:14Z",
        target_domain_detected=True,
        target_domain_ready_timestamp="2026-11-23T08:43:15Z",
        end_timestamp="2026-11-23T08:43:16Z",
        mode="PreCopy",
        completed=True,
        failed=True,
        abort_requested=True,
        abort_status="Succeeded",
        failure_reason="out of patience",
    )


def test_migration_that_says_nothing_else_has_only_its_uid() -> None:
    found = vmi_view(vmi(status={"migrationState": {"migrationUid": "m1"}}))

    assert found.migration == MigrationView(uid=MigrationUid("m1"))


def test_vmim_is_read() -> None:
    found = vmim_view(
        {
            "metadata": {
                "namespace": "demo",
                "name": "kubevirt-migrate-vm-x",
                "uid": "m1",
                "deletionTimestamp": "2026-11-23T08:43:11Z",
            },
            "spec": {"vmiName": "desk"},
            "status": {
                "phase": "Running",
                "migrationState": {"sourceNode": "node1", "targetNode": "node2"},
            },
        }
    )

    assert found == VmimView(
        namespace="demo",
        name="kubevirt-migrate-vm-x",
        uid=MigrationUid("m1"),
        vmi_name="desk",
        phase="Running",
        source_node="node1",
        target_node="node2",
        deleting=True,
    )


@pytest.mark.parametrize("path", sorted(TRACES.glob("*.jsonl")), ids=lambda path: path.stem)
def test_objects_recorded_on_a_real_control_plane_are_read(path: Path) -> None:
    objects = [json.loads(line)["object"] for line in path.read_text().splitlines()]
    vmis = [vmi_view(obj) for obj in objects if obj["kind"] == "VirtualMachineInstance"]
    vmims = [vmim_view(obj) for obj in objects if obj["kind"] != "VirtualMachineInstance"]

    assert vmis
    assert vmims
    assert {view.ref.namespace for view in vmis} == {"demo"}
    essences = [essence_of_vmi(obj) for obj in objects if obj["kind"] == "VirtualMachineInstance"]
    assert [vmi_view(essence) for essence in essences] == vmis
    assert len(json.dumps(essences)) < len(json.dumps(objects)) / 3
    assert all(view.uid and view.phase == "Running" and view.node for view in vmis)
    assert {view.vmi_name for view in vmims} == {vmis[0].ref.name}
    assert {view.migration.uid for view in vmis if view.migration} <= {v.uid for v in vmims}


# -- slots ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "slots"),
    [
        ("flash", ("flash", "usb1", "usb2", "usb3")),
        ("token, scanner", ("token", "scanner", "usb2", "usb3")),
        ("a,b,c,d", ("a", "b", "c", "d")),
        ("usb3,x,y,z", ("usb3", "x", "y", "z")),
        ("x" * 63, ("x" * 63, "usb1", "usb2", "usb3")),
    ],
)
def test_slots_are_named_by_the_annotation_and_the_rest_by_default(
    annotation: str, slots: tuple[str, ...]
) -> None:
    assert parse_slot_names(annotation) == slots
    found = vmi_view(
        vmi(devices={"clientPassthrough": {}}, annotations={"vmredir.io/slots": annotation})
    )
    assert found.slots == slots
    assert found.slots_problem == ""


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        ("", "'' is not a DNS label"),
        ("a,,b", "'' is not a DNS label"),
        ("Flash", "'Flash' is not a DNS label"),
        ("a_b", "'a_b' is not a DNS label"),
        ("-a", "'-a' is not a DNS label"),
        ("x" * 64, f"'{'x' * 64}' is not a DNS label"),
        ("a,b,c,d,e", "5 names for 4 slots"),
        ("a,a", "'a' is the name of two slots"),
        ("usb1", "'usb1' is the name of two slots"),
        ("\x1b[2J", r"'\x1b[2J' is not a DNS label"),
    ],
)
def test_broken_annotation_gives_the_defaults_and_the_reason(annotation: str, problem: str) -> None:
    found = vmi_view(
        vmi(devices={"clientPassthrough": {}}, annotations={"vmredir.io/slots": annotation})
    )

    assert found.slots == DEFAULT_SLOTS
    assert found.slots_problem == problem


def test_named_devices_of_the_first_proposal_are_slots() -> None:
    devices = {"clientDevices": [{"usb": {"name": "token"}}, {"usb": {"name": "flash"}}]}

    found = vmi_view(vmi(devices=devices))

    assert found.client_passthrough
    assert found.slots == ("token", "flash")


def test_annotation_goes_before_the_first_proposal() -> None:
    devices = {"clientDevices": [{"usb": {"name": "token"}}]}

    found = vmi_view(vmi(devices=devices, annotations={"vmredir.io/slots": "flash"}))

    assert found.slots[0] == "flash"


# -- any JSON -------------------------------------------------------------------------------

_keys = st.sampled_from(
    [
        "metadata",
        "spec",
        "status",
        "namespace",
        "name",
        "uid",
        "annotations",
        "vmredir.io/slots",
        "domain",
        "devices",
        "clientPassthrough",
        "clientDevices",
        "usb",
        "conditions",
        "type",
        "migrationState",
        "migrationUid",
        "phase",
    ]
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(_keys, children, max_size=5),
    max_leaves=20,
)


@given(obj=st.dictionaries(_keys, _json))
def test_any_json_is_read_without_harm(obj: dict[str, Any]) -> None:
    found, moved = vmi_view(obj), vmim_view(obj)

    assert vmi_view(essence_of_vmi(obj)) == found
    assert found.ref.name.isprintable()
    assert moved.name.isprintable()
    assert len(found.slots) <= 4
