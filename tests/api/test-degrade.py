"""test-degrade SERVER - what requests get while the model is being loaded, against tests/api/server.c with a slow start.

The server keeps its state between starts: results of a first, quick one are what later ones find.
"""
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

SERVER = sys.argv[1]
PLAIN = {"prompt": "a red circle", "seed": 7, "size": "128x128", "num_frames": 17, "num_inference_steps": 10}


class Server:
    def __init__(self, state, *options):
        self.process = subprocess.Popen([SERVER, state, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{self.process.stdout.readline().split()[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        assert self.process.wait(20) == 0

    def call(self, path, body=None):
        """Status, answer and Retry-After."""
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if body else None,
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as r:
                return r.status, json.load(r), r.headers.get("Retry-After")
        except urllib.error.HTTPError as e:
            return e.code, json.load(e), e.headers.get("Retry-After")

    def make(self, body, path="/v1/videos"):
        status, video, _ = self.call(path, body)
        assert status == 200, video
        return video

    def wait(self, id):
        end = time.monotonic() + 30
        while (video := self.call(f"/v1/videos/{id}")[1])["status"] not in ("completed", "failed"):
            assert time.monotonic() < end, video
            time.sleep(0.02)
        return video

    def jobs(self):
        return self.call("/v1/videos?limit=100")[1]["data"]


SLOW = ("start_msec=2000", "deadline_msec=500")
LADDER = "ladder=steps:9 steps:4,frames:9 steps:2,frames:5,pixels:4096"


def stored_results_are_given(state):
    with Server(state) as s:
        first = s.wait(s.make(PLAIN)["id"])
        s.wait(s.make({**PLAIN, "seed": 8, "priority": "batch"})["id"])
    with Server(state, *SLOW) as s:
        video = s.make(PLAIN)
        assert video["id"] == first["id"] and video["status"] == "completed", video
        assert video["degraded"].startswith("the stored result of the same request: seed 7, 128x128, 17 frames"), video
        video = s.make({**PLAIN, "seed": 9})
        assert video["seed"] == 8 and video["degraded"].startswith("a stored result of the same prompt: seed 8"), video
        seedless = s.make({k: v for k, v in PLAIN.items() if k != "seed"})
        assert seedless["seed"] == 8 and "the same request" in seedless["degraded"], seedless
        assert len(s.jobs()) == 2


def nothing_stored_is_refused_with_a_time(state):
    with Server(state, *SLOW) as s:
        for body in (PLAIN, {**PLAIN, "degrade": "none"}):
            status, said, retry = s.call("/v1/videos", body)
            assert status == 503 and 1 <= int(retry) <= 2, (status, said, retry)
            assert "is to begin within 0.5 s" in said["error"]["message"], said
        assert s.jobs() == []
        time.sleep(2)
        assert s.make(PLAIN)["degraded"] is None


def policy_is_the_clients(state):
    with Server(state) as s:
        s.wait(s.make(PLAIN)["id"])
    with Server(state, *SLOW, "degrade=any", LADDER) as s:
        assert s.call("/v1/videos", {**PLAIN, "degrade": "none"})[0] == 503
        assert s.call("/v1/videos", {**PLAIN, "prompt": "another", "degrade": "cached"})[0] == 503
        status, said, _ = s.call("/v1/videos", {**PLAIN, "degrade": "magic"})
        assert status == 400 and said["error"]["param"] == "degrade", said
        assert s.make(PLAIN)["status"] == "completed"


def simpler_videos_make_good_for_the_wait(state):
    with Server(state, "step_msec=100") as s:
        s.wait(s.make({**PLAIN, "prompt": "for the times"})["id"])
    with Server(state, *SLOW, "degrade=any", LADDER, "step_msec=100") as s:
        # One second of work cannot make good for a second and a half.
        status, said, _ = s.call("/v1/videos", {**PLAIN, "num_inference_steps": 10})
        assert status == 503, said
        # Twenty seconds of work can.
        video = s.make({**PLAIN, "num_inference_steps": 100, "size": "256x128"})
        assert video["degraded"] == "9 steps instead of 100", video
        assert video["num_inference_steps"] == 9 and video["num_frames"] == 17, video
        done = s.wait(video["id"])
        assert done["status"] == "completed" and done["degraded"] == video["degraded"], done


def unknown_times_take_the_last_rung(state):
    with Server(state, *SLOW, "degrade=any", LADDER) as s:
        video = s.make({**PLAIN, "size": "256x128"})
        assert video["degraded"] == "2 steps instead of 10, 5 frames instead of 17, 64x32 instead of 256x128", video
        assert (video["width"], video["height"], video["num_frames"]) == (64, 32, 5), video
        assert s.wait(video["id"])["status"] == "completed"
    with Server(state, *SLOW) as s:  # what was made simpler is no stored result
        assert s.call("/v1/videos", {**PLAIN, "size": "256x128"})[0] == 503


def the_full_job_still_runs(state):
    with Server(state) as s:
        first = s.wait(s.make(PLAIN)["id"])
    with Server(state, *SLOW, "degrade=any", LADDER) as s:
        video = s.make({**PLAIN, "seed": 9}, "/v1/videos?upgrade=1")
        assert video["id"] == first["id"] and video["upgrade_id"] != first["id"], video
        full = s.wait(video["upgrade_id"])
        assert full["status"] == "completed" and full["seed"] == 9 and full["degraded"] is None, full
    with Server(state, "step_msec=50") as s:
        s.wait(s.make({**PLAIN, "prompt": "for the times"})["id"])
    with Server(state, *SLOW, "degrade=any", LADDER, "step_msec=50") as s:
        video = s.make({**PLAIN, "prompt": "new", "num_inference_steps": 100}, "/v1/videos?upgrade=1")
        assert "instead of 100" in video["degraded"], video
        assert s.wait(video["id"])["status"] == "completed"
        full = s.call(f"/v1/videos/{video['upgrade_id']}")[1]
        assert full["num_inference_steps"] == 100 and full["seed"] == video["seed"] and not full["degraded"], full
        assert full["status"] != "completed", "the simpler one goes first"


def a_refused_request_leaves_no_full_job(state):
    with Server(state, *SLOW, "degrade=any", LADDER, "queue_limit=1") as s:
        status, said, _ = s.call("/v1/videos?upgrade=1", {**PLAIN, "size": "256x128"})
        assert status == 429 and said["error"]["code"] == "queue_full", said
        assert s.jobs() == []


def quick_starts_change_nothing(state):
    with Server(state, "start_msec=300", "deadline_msec=2000", "degrade=any", LADDER) as s:
        video = s.make(PLAIN)
        assert video["degraded"] is None and s.wait(video["id"])["num_inference_steps"] == 10, video
    with Server(state, "start_msec=1500", "degrade=any", LADDER) as s:  # no deadline
        video = s.make({**PLAIN, "degrade": "any"})
        assert video["status"] in ("queued", "in_progress") and video["phase"] == "loading", video
        assert 0.5 < video["eta_seconds"] < 5, video  # the start's, beside what such a job takes
        assert s.wait(video["id"])["phase"] == "done"


failed = 0
for check in (stored_results_are_given, nothing_stored_is_refused_with_a_time, policy_is_the_clients,
              simpler_videos_make_good_for_the_wait, unknown_times_take_the_last_rung, the_full_job_still_runs,
              a_refused_request_leaves_no_full_job, quick_starts_change_nothing):
    with tempfile.TemporaryDirectory(prefix="preheat-degrade-") as place:
        try:
            check(place)
            print(f"ok {check.__name__}")
        except AssertionError as e:
            failed += 1
            print(f"not ok {check.__name__}: {e}")
sys.exit(failed > 0)
