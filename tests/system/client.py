"""The videos API of a daemon inside a machine, asked with its curl."""
import json

from machine import wait_for

TCP = ("http://127.0.0.1:8484",)
UNIX = ("--unix-socket", "/run/preheat/api.sock", "http://preheat")
SMALL = {"width": 64, "height": 64, "num_frames": 5, "num_inference_steps": 2, "seed": 1}
LONG = {"num_inference_steps": 100}  # some seconds
PROMPT = "a red circle moving right on a black background"


def request(m, where, path, *options, timeout=60):
    """(status, body as text) of one curl call inside."""
    out = m.run("curl", "-sS", "-g", "-m", str(timeout), "-w", "\n%{http_code}", *options, *where[:-1],
                where[-1] + path, timeout=timeout + 10).stdout
    body, _, status = out.rpartition("\n")
    return int(status), body


def get(m, where, path):
    status, body = request(m, where, path)
    return status, json.loads(body)


def post(m, where=TCP, **fields):
    """(status, answer) of a request for a video."""
    body = json.dumps({"prompt": PROMPT, **SMALL, **fields})
    status, text = request(m, where, "/v1/videos", "-H", "Content-Type: application/json", "-d", body)
    return status, json.loads(text)


def create(m, where=TCP, **fields):
    """The id of a job that was accepted."""
    status, answer = post(m, where, **fields)
    assert status == 200, f"{status}: {answer}"
    return answer["id"]


def running(m, job, where=TCP):
    wait_for("the job to run", 20, lambda: get(m, where, f"/v1/videos/{job}")[1]["status"] == "in_progress")


def finished(m, job, where=TCP):
    """The video object, when there is nothing more to come."""
    def probe():
        _, video = get(m, where, f"/v1/videos/{job}")
        return video if video["status"] in ("completed", "failed") else None
    return wait_for(f"job {job}", 120, probe, 0.2)


def video(m, where=TCP, **fields):
    """Asks for a video, waits, and looks at the file."""
    job = create(m, where, **fields)
    done = finished(m, job, where)
    assert done["status"] == "completed", done
    check_content(m, job, where)
    return done


def check_content(m, job, where=TCP):
    m.run("curl", "-sSf", "-o", "/tmp/video", *where[:-1], f"{where[-1]}/v1/videos/{job}/content")
    assert "ftyp" in m.run("head", "-c", "12", "/tmp/video").stdout, "not an MP4 file"


def serving(m, where=TCP):
    """Waits until the model is loaded."""
    wait_for("health", 30, lambda: get(m, where, "/healthz")[0] == 200)
