#!/usr/bin/env python3
"""The figures of a bench run (bench.json) as the tables of docs/performance.md: all rows, then the goals that were missed.

usage: table.py BENCH_JSON
"""
import json
import sys


def figure(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def best_peer(row):
    """The peer that calf is held against, as (words, median)."""
    peers = {name: entry for name, entry in row["contestants"].items() if name.startswith("QEMU")}
    if not peers:
        return None
    choose = max if row["higher-is-better"] else min
    name = choose(peers, key=lambda n: peers[n]["median"])
    words = name.removeprefix("QEMU").strip()
    return figure(peers[name]["median"]) + (f" ({words})" if words else "")


def goal_words(goal):
    words = goal["goal"].removesuffix(" x QEMU")
    if goal["verdict"] == "met":
        return words + " ✓"
    return words if goal["reached"] is None or words != goal["goal"] else f"{words} ({figure(goal['reached'])})"


def line(row):
    own = row["contestants"]["calf"]
    limit = row["contestants"].get("limit")
    ratio = row["ratio-to-qemu"]
    return [row["row"], row["unit"],
            f"{figure(own['min'])} / **{figure(own['median'])}** / {figure(own['max'])}",
            best_peer(row) or "–", figure(limit["median"]) if limit else "–", f"{ratio:.2f}" if ratio else "–",
            "; ".join(map(goal_words, row["goals"])) or "–", f"{own['cpu-seconds']:.2f}, {own['rss-kib'] / 1024:.0f}"]


def missed(row):
    """How far the limit is from QEMU says whether the goal was there to be reached."""
    room = row["ratio-to-qemu"] / row["ratio-to-limit"] if row["ratio-to-qemu"] and row["ratio-to-limit"] else None
    return [[row["row"], goal["goal"], f"{goal['reached']:.3g}", f"{room:.2f}" if room else "–",
             f"{row['ratio-to-limit']:.2f}" if row["ratio-to-limit"] else "–"]
            for goal in row["goals"] if goal["verdict"] == "MISSED"]


def show(head, lines):
    for cells in [head, ["---"] * len(head), *lines]:
        print("| " + " | ".join(cells) + " |")


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = json.load(file)
    head = ["row", "unit", "calf: min / median / max", "QEMU 7.2, best", "limit", "calf/QEMU", "goals", "calf: CPU s, MiB"]
    show(head, map(line, rows))
    print()
    show(["row", "goal", "reached", "limit/QEMU", "calf/limit"], [cells for row in rows for cells in missed(row)])


if __name__ == "__main__":
    main()
