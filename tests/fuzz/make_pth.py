#!/usr/bin/env python3
"""Makes corpus/pth and corpus/pickle: what torch.save() writes, good and bad. Needs torch.

  make_pth.py CORPUS_DIRECTORY

The committed files were made with torch 2.15.0. Each pickle is that of the archive of the same name.
"""
import collections
import pathlib
import sys
import zipfile

import torch

out = pathlib.Path(sys.argv[1])


def save(name, what, **options):
    path = out / "pth" / name
    torch.save(what, path, **options)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            pickle = next(n for n in archive.namelist() if n.endswith("data.pkl"))
            (out / "pickle" / name).write_bytes(archive.read(pickle))


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)
        self.norm = torch.nn.LayerNorm(3)


torch.manual_seed(1)
whole = torch.arange(12, dtype=torch.float32)
save("module", Layer().state_dict())
save("dict", {"a": torch.ones(3, 2, dtype=torch.bfloat16), "b": torch.zeros(4), "c": torch.tensor(1.5, dtype=torch.float16)})
save("empty", {})
save("shared", {"a": whole, "same": whole, "view": whole.reshape(3, 4)})
save("slices", {"front": whole[:4], "back": whole[4:].reshape(2, 4), "none": torch.zeros(0, 5)})
save("many", collections.OrderedDict((f"blocks.{i}.weight", torch.full((2,), float(i))) for i in range(40)))
save("overlap", {"front": whole[:6], "back": whole[5:]})
save("transposed", {"a": whole.reshape(3, 4).t()})
save("integers", {"a": torch.arange(3)})
save("nested", {"model": {"a": whole}})
save("epoch", {"a": whole, "epoch": 3})
save("list", [whole])
save("float", {"a": whole, "loss": 0.5})
save("object", Layer())
save("parameter", {"a": torch.nn.Parameter(whole)})
save("protocol-4", {"a": whole}, pickle_protocol=4)
save("legacy", {"a": whole}, _use_new_zipfile_serialization=False)


def repack(name, order, compression=zipfile.ZIP_STORED):
    """The archive of one tensor again by another program: entries in another order, no padding."""
    with zipfile.ZipFile(out / "pth" / name, "w", compression) as archive:
        for entry in order:
            info = zipfile.ZipInfo(f"{name}/{entry}", (1980, 1, 1, 0, 0, 0))
            info.compress_type = compression
            archive.writestr(info, entries[entry])


torch.save({"a": whole}, out / "once")
with zipfile.ZipFile(out / "once") as archive:
    entries = {n.partition("/")[2]: archive.read(n) for n in archive.namelist()}
(out / "once").unlink()
entries["odd"] = b""
repack("unaligned", ["data.pkl", "odd", "data/0"])
repack("late-pickle", ["data/0", "data.pkl"])
repack("deflated", ["data.pkl", "data/0"], zipfile.ZIP_DEFLATED)
