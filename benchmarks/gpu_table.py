"""One Markdown table of the JSON files that `finetune.py`, `pretrain.py` and `generate.py` wrote in a folder.

python benchmarks/gpu_table.py FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHARES = ("mfu", "share_of_peak", "share_of_bandwidth")
"""Fields with the share of the hardware's speed that is used, of which a row has at most one."""


def rows(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield (benchmark, contestant, figures)."""
    for name in ("pretrain", "finetune", "generate"):
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        parts = {part: found[part] for part in ("training", "classification") if part in found}
        for part, figures in (parts or {name: found["figures"]}).items():
            for contestant, row in figures.items():
                yield part, contestant, row


def main() -> int:
    """Run the script; return 1 if the folder holds no results."""
    folder = Path(sys.argv[1])
    lines = [
        f"| {part} | {contestant} | {row['tokens_per_second']:,.0f} | {share(row)} | {memory(row)} |"
        for part, contestant, row in rows(folder)
    ]
    if not lines:
        print(f"{folder}: no results")
        return 1
    print("| benchmark | contestant | tokens/s | of peak | GB |", "|---|---|--:|--:|--:|", *lines, sep="\n")
    machines = [json.loads(path.read_text(encoding="utf-8"))["machine"] for path in sorted(folder.glob("*.json"))]
    print("\n" + ", ".join(f"{name} {value}" for name, value in machines[0].items()))
    print("of peak: MFU in training and classification, share of the memory bandwidth in generation.")
    return 0


def share(row: dict[str, Any]) -> str:
    """Return the share of the hardware's speed in percent."""
    values = [row[name] for name in SHARES if row.get(name) is not None]
    return f"{values[0]:.0%}" if values else "–"


def memory(row: dict[str, Any]) -> str:
    """Return the peak memory in GB."""
    return "–" if row.get("memory_gb") is None else f"{row['memory_gb']:.1f}"


if __name__ == "__main__":
    sys.exit(main())
