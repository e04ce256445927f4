"""test-jobs PREHEATCTL SERVER - the commands about jobs, against the test server of tests/api/server.c."""
import http.server
import json
import os
import pathlib
import pty
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

CTL, SERVER = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
OK, FAILED, USAGE, UNREACHABLE, REFUSED, JOB_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
ID = re.compile(r"video_[0-9a-f]{32}")


class Server:
    """A server on a state directory of its own; a directory to work in."""

    def __init__(self, place, *options):
        self.place = pathlib.Path(place)
        self.state = self.place / "state"
        self.state.mkdir()
        (self.place / "work").mkdir()
        self.process = subprocess.Popen([SERVER, self.state, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.port = int(self.process.stdout.readline().split()[1])
        self.socket = self.state / "api.sock"

    def end(self):
        self.process.stdin.close()
        assert self.process.wait(20) == 0

    def command(self, *words):
        return [CTL, "--socket", str(self.socket), *map(str, words)]

    def ctl(self, *words, code=OK):
        r = subprocess.run(self.command(*words), capture_output=True, timeout=60, cwd=self.place / "work")
        assert r.returncode == code, (words, r.returncode, r.stdout, r.stderr)
        return r.stdout.decode() if code == OK else r.stderr.decode()

    def files(self):
        return sorted(p.name for p in (self.place / "work").iterdir())

    def jobs(self):
        return {j["id"]: j for j in json.loads(self.ctl("list", "--json", "-n", 100))["data"]}


def generate_writes_a_file(s):
    said = s.ctl("generate", "a red circle", "-o", "x.mp4", "--seed", 7, "--steps", 5, "--size", "128x96",
                 "--guidance", 2.5, "--negative", "", "--scheduler", "euler", "--priority", "batch")
    assert said.startswith("x.mp4: 128x96, ") and ", seed 7, made in " in said, said
    assert s.files() == ["x.mp4"] and (s.place / "work" / "x.mp4").read_bytes()[4:8] == b"ftyp"
    said = s.ctl("generate", "a red circle", "-o", "-", "--steps", 1)
    assert said[4:8] == "ftyp" and "made in" not in said
    said = s.ctl("generate", "without a name", "--steps", 1, "--json")
    video = json.loads(said)
    assert video["status"] == "completed" and video["id"] + ".mp4" in s.files(), said


def refusals_are_sentences(s):
    for words, sentence in ((("--size", "100x100"), "'width' is 100"), (("--steps", -3), "'num_inference_steps' is -3"),
                            (("--image", "/etc/passwd"), "neither PNG nor JPEG nor WebP"),
                            (("--model", "no-such"), "no-such"), (("--scheduler", "magic"), "magic")):
        said = s.ctl("generate", "p", *words, code=REFUSED)
        assert sentence in said and said.count("\n") == 1, said
    assert "cannot" in s.ctl("generate", "p", "--image", "nowhere.png", code=1)
    assert "unknown option" in s.ctl("generate", "p", "--magic", code=USAGE)
    assert "video_not_found" in s.ctl("get", "video_" + "0" * 32, code=REFUSED)
    assert "is no job's id" in s.ctl("cancel", "../healthz", code=USAGE)
    assert s.files() == [] and s.jobs() == {}


def failed_jobs_say_why(s):
    said = s.ctl("generate", "fail please", code=JOB_FAILED)
    assert " failed: " in said.splitlines()[-1] and s.files() == [], said


def jobs_are_listed_fetched_cancelled(s):
    first = s.ctl("generate", "one", "--no-wait", "--steps", 100).strip()
    second = s.ctl("generate", "two", "--no-wait").strip()
    assert ID.fullmatch(first) and ID.fullmatch(second)
    lines = s.ctl("list").splitlines()
    assert lines[0].startswith(second) and lines[0].endswith("two") and lines[1].startswith(first), lines
    assert len(s.ctl("list", "-n", 1).splitlines()) == 1
    assert "video_not_ready" in s.ctl("get", second, code=REFUSED)
    s.ctl("cancel", first)
    assert first not in s.jobs()
    end = time.monotonic() + 20
    while s.jobs()[second]["status"] != "completed":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert "Is a directory" in s.ctl("get", second, "-o", ".", code=FAILED)
    assert s.ctl("get", second, "-o", "two.mp4") == "two.mp4\n" and s.files() == ["two.mp4"]
    s.ctl("cancel", second)
    assert s.jobs() == {}


def interrupt_cancels_and_nothing_is_left(s):
    p = subprocess.Popen(s.command("generate", "long", "--steps", 100, "-o", "x.mp4"), stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, cwd=s.place / "work")
    end = time.monotonic() + 20
    while not any(j["status"] == "in_progress" for j in s.jobs().values()):
        assert time.monotonic() < end
        time.sleep(0.05)
    p.send_signal(signal.SIGINT)
    _, said = p.communicate(timeout=20)
    assert p.returncode == INTERRUPTED and "is cancelled" in said, (p.returncode, said)
    assert s.files() == [] and s.jobs() == {}


def a_terminal_gets_one_line(s):
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(s.place / "work")
        os.environ.update(TERM="xterm", NO_COLOR="1", LC_ALL="C.UTF-8")
        os.execv(CTL, s.command("generate", "p", "--steps", 20, "-o", "x.mp4"))
    seen = b""
    try:
        while piece := os.read(fd, 65536):
            seen += piece
    except OSError:
        pass  # the other end is closed
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == OK
    text = seen.decode()
    assert text.count("\n") == 1 and text.count("\r") > 3 and "denoising" in text and re.search(r"step \d+ of 20", text) and "\033[3" not in text, text
    assert "\033[Kx.mp4: " in text, text
    for line in text.split("\r"):
        assert len(line.replace("\033[K", "")) < 80, line


def status_tells_all(s):
    s.ctl("generate", "p", "--steps", 1, "-o", "x.mp4")
    said = s.ctl("status")
    assert "serving" in said and "queue" in said and "completed" in said, said
    status = json.loads(s.ctl("status", "--json"))
    assert status["health"]["status"] == "ok" and len(status["jobs"]["data"]) == 1
    r = subprocess.run([CTL, "--url", f"http://127.0.0.1:{s.port}/", "status", "--json"], capture_output=True, text=True)
    assert "huge_pages" not in json.loads(r.stdout) and json.loads(r.stdout)["health"]["status"] == "ok"


def nobody_there(s):
    s.end()
    assert "nobody answers at socket" in s.ctl("list", code=UNREACHABLE)
    assert "nobody answers at socket" in s.ctl("generate", "p", code=UNREACHABLE)
    s.process = None


def tokens_are_sent(s):
    url = ["--url", f"http://127.0.0.1:{s.port}"]
    token = s.place / "token"
    r = subprocess.run([CTL, *url, "list"], capture_output=True, text=True)
    assert r.returncode == REFUSED and "401" in r.stderr, r
    token.write_text("secret\n")
    r = subprocess.run([CTL, *url, "--token-file", token, "list"], capture_output=True, text=True)
    assert r.returncode == OK, r
    token.write_text("sec ret\n")
    r = subprocess.run([CTL, *url, "--token-file", token, "list"], capture_output=True, text=True)
    assert r.returncode == USAGE and "is no token" in r.stderr, r


def a_server_does_not_control_the_terminal(s):
    class Hostile(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps({"error": {"message": "\x1b[2Jgone", "code": "\x9b5m"}}).encode()
            self.send_response(400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass
    with http.server.HTTPServer(("127.0.0.1", 0), Hostile) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        r = subprocess.run([CTL, "--url", f"http://127.0.0.1:{server.server_port}", "list"], capture_output=True)
        server.shutdown()
    assert r.returncode == REFUSED and b"?[2Jgone" in r.stderr, r
    assert b"\x1b" not in r.stderr and b"\x9b" not in r.stderr, r


def what_cannot_be_printed_is_a_failure(s):
    s.ctl("generate", "p")
    for words in (["--help"], ["--version"], ["list", "--help"], ["--socket", s.socket, "list"]):
        with open("/dev/full", "w") as full:
            r = subprocess.run([CTL, *words], stdout=full, stderr=subprocess.PIPE, text=True)
        assert r.returncode == 1 and "cannot write the answer: No space left" in r.stderr, (words, r)


def unavailable_server_says_why(s):
    assert "no model here" in s.ctl("generate", "p", code=REFUSED)
    assert "no model here" in s.ctl("status")


CHECKS = ((generate_writes_a_file, "step_msec=20"), (refusals_are_sentences, "step_msec=20"), (failed_jobs_say_why,),
          (jobs_are_listed_fetched_cancelled, "step_msec=50"), (interrupt_cancels_and_nothing_is_left, "step_msec=100"),
          (a_terminal_gets_one_line, "step_msec=100"), (status_tells_all, "step_msec=20"), (nobody_there,),
          (tokens_are_sent, "token=secret"), (a_server_does_not_control_the_terminal,),
          (what_cannot_be_printed_is_a_failure, "step_msec=20"), (unavailable_server_says_why, "reason=no model here"))

failed = 0
for check, *options in CHECKS:
    with tempfile.TemporaryDirectory(prefix="preheat-ctl-") as place:
        server = Server(place, *options)
        try:
            check(server)
            print(f"ok {check.__name__}")
        except AssertionError as e:
            failed += 1
            print(f"not ok {check.__name__}: {e}")
        finally:
            if server.process:
                server.end()
sys.exit(failed > 0)
