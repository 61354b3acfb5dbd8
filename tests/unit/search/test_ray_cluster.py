"""What is known of a Ray cluster without one: room, silence, and what is refused."""

import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="pip install 'tunesmith[ray]'")

from tunesmith.errors import RunError
from tunesmith.events import Warned
from tunesmith.search import ray_cluster
from tunesmith.searchspread import Ray


def nodes(*resources: dict[str, float], alive: bool = True) -> list[dict[str, Any]]:
    return [{"Alive": alive, "Resources": one} for one in resources]


@pytest.mark.parametrize(
    ("asked", "room"),
    [
        ({}, 12),
        ({"cpus": 4}, 3),
        ({"cpus": 3}, 3),
        ({"gpus": 1}, 3),
        ({"gpus": 0.5}, 6),
        ({"gpus": 0.4}, 6),
        ({"gpus": 2}, 1),
        ({"gpus": 0.5, "cpus": 4}, 3),
        ({"workers": 5}, 5),
        ({"cpus": 64}, 1),
    ],
)
def test_room_is_what_each_machine_can_take_by_itself(
    asked: dict[str, Any], room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = nodes({"CPU": 8, "GPU": 2}, {"CPU": 4, "GPU": 1}, {}) + nodes({"CPU": 100}, alive=False)
    monkeypatch.setattr(ray_cluster.ray, "nodes", lambda: made)
    assert ray_cluster.Cluster(Ray(**asked)).room() == room


def test_a_trial_that_no_machine_can_take_waits_on_a_cluster_and_is_refused_on_this_machine_alone() -> None:
    said: list[Warned] = []
    ray_cluster._tell_no_room(Ray(gpus=1), said.append)
    assert "waiting for one that has" in said[0].message
    with pytest.raises(RunError, match="which this machine does not have"):
        ray_cluster._tell_no_room(Ray(address="local", gpus=1), said.append)


def test_a_cluster_without_machines_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster.ray, "nodes", lambda: nodes({"CPU": 8}, alive=False))
    with pytest.raises(RunError, match="all machines of the Ray cluster are gone"):
        ray_cluster.Cluster(Ray()).refuse_dead()


def test_threads_of_ray_print_nothing_and_all_others_do(capsys: pytest.CaptureFixture[str]) -> None:
    with ray_cluster._hushed():
        for name in ("ray_listen_error_messages", "another"):
            thread = threading.Thread(target=print, args=(name,), name=name)
            thread.start()
            thread.join()
        print("ours", flush=True)
    print("behind it")
    assert capsys.readouterr().out == "another\nours\nbehind it\n"


def test_an_address_where_nothing_listens_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no Ray cluster to join"):
        ray_cluster._join(Ray(address="127.0.0.1:1"), tmp_path)
