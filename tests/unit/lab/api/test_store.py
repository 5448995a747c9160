from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_vmredir.lab.api.objects import Json
from kubectl_vmredir.lab.api.resources import BY_PATH, NODES, PODS
from kubectl_vmredir.lab.api.store import ChangeKind, Store, TooOldError


def pod(name: str, namespace: str = "demo", **more: str) -> Json:
    return {"metadata": {"name": name, "namespace": namespace}, **more}


def names(objects: object) -> list[str]:
    assert isinstance(objects, list)
    return [obj["metadata"]["name"] for obj in objects]


def test_each_write_gets_the_next_version_whatever_its_resource() -> None:
    store = Store()
    start = store.version

    first = store.put(PODS, pod("a"))
    second = store.put(NODES, {"metadata": {"name": "node1"}})

    assert first["metadata"]["resourceVersion"] == str(start + 1)
    assert second["metadata"]["resourceVersion"] == str(start + 2)
    assert store.version == start + 2


def test_an_object_that_was_given_out_never_changes() -> None:
    store = Store()
    first = store.put(PODS, pod("a", phase="Pending"))

    store.put(PODS, {**first, "phase": "Running"})

    assert first["phase"] == "Pending"


def test_a_list_is_ordered_by_namespace_and_name() -> None:
    store = Store()
    for name, namespace in (("b", "demo"), ("a", "other"), ("a", "demo")):
        store.put(PODS, pod(name, namespace))

    assert names(store.list(PODS)) == ["a", "b", "a"]
    assert names(store.list(PODS, "demo")) == ["a", "b"]


def test_changes_say_what_was_there_before() -> None:
    store = Store()
    start = store.version
    created = store.put(PODS, pod("a"))
    changed = store.put(PODS, pod("a", phase="Running"))
    store.remove(PODS, "demo", "a")

    added, modified, deleted = store.changes_since(start)

    assert (added.kind, added.before) == (ChangeKind.ADDED, None)
    assert (modified.kind, modified.before) == (ChangeKind.MODIFIED, created)
    assert (deleted.kind, deleted.before) == (ChangeKind.DELETED, changed)
    assert deleted.obj["metadata"]["resourceVersion"] == str(store.version)
    assert deleted.obj["phase"] == "Running"


def test_who_lags_behind_the_ring_is_told() -> None:
    store = Store(history_changes=2)
    start = store.version
    for name in ("a", "b", "c"):
        store.put(PODS, pod(name))

    assert len(store.changes_since(start + 1)) == 2
    with pytest.raises(TooOldError, match=rf"too old resource version: {start} \({start + 1}\)"):
        store.changes_since(start)


def test_a_compacted_store_knows_no_older_version() -> None:
    store = Store()
    start = store.version
    store.put(PODS, pod("a"))
    store.compact()

    assert store.changes_since(store.version) == []
    with pytest.raises(TooOldError):
        store.changes_since(start)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["put", "remove"])), max_size=20
    )
)
def test_a_list_at_a_version_is_the_list_of_then(steps: list[tuple[str, str]]) -> None:
    store = Store()
    snapshots = {store.version: store.list(PODS)}
    for name, what in steps:
        if what == "put":
            store.put(PODS, pod(name))
        elif store.get(PODS, "demo", name) is not None:
            store.remove(PODS, "demo", name)
        snapshots[store.version] = store.list(PODS)

    for version, then in snapshots.items():
        assert store.list(PODS, at=version) == then


async def test_a_waiting_watcher_wakes_up_at_the_next_write() -> None:
    store = Store()
    changed = store.changed

    async with asyncio.timeout(1), asyncio.TaskGroup() as group:
        waiting = group.create_task(changed.wait())
        store.put(PODS, pod("a"))

    assert waiting.done()
    assert not store.changed.is_set()


def test_a_dump_brings_everything_back_but_the_history() -> None:
    store = Store()
    store.put(PODS, pod("a"))
    store.put(NODES, {"metadata": {"name": "node1"}})
    copy = Store()

    copy.load(BY_PATH, store.dump())

    assert copy.list(PODS) == store.list(PODS)
    assert copy.get(NODES, "", "node1") == store.get(NODES, "", "node1")
    with pytest.raises(TooOldError):
        copy.changes_since(store.version)
    assert copy.changes_since(copy.version) == []


def test_a_version_is_not_given_out_twice_after_a_crash() -> None:
    store = Store()
    store.put(PODS, pod("a"))
    dumped = store.dump()
    store.put(PODS, pod("b"))
    lost = store.version
    copy = Store()

    copy.load(BY_PATH, dumped)
    copy.put(PODS, pod("c"))

    with pytest.raises(TooOldError):
        copy.changes_since(lost)
