"""`needledrop import-annotations`: a published list of described clips becomes a folder corpus.

Reads CSVs of YouTube8M-MusicTextClips (``video_id,start,end,text``), finds each video in a local folder by
its id, and cuts the described part. Writes into the output folder::

    clips/<id>.mp4    the parts
    annotations.csv   video_id,start,end,text,split of the parts, as `corpus` (kind folder) and `ingest` read it
    report.json       what was used, missing and refused, row by row
    frozen.json       the clips that were there the first time, see `flows.annotations.frozen`

Nothing is downloaded. A row that cannot be used never stops the others, and is never silent. Parts that are
there are not cut again, so a broken-off import goes on where it was.
"""

import csv
import errno
import io
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from components.containers import MediaError
from components.stage import atomic_file, progress, write_json
from flows.annotations.cut import cut, label_of
from flows.annotations.frozen import digest_of, freeze, is_of, read_frozen
from flows.annotations.local_media import find_media
from flows.annotations.published import Refused, Wanted, read_wanted
from flows.errors import OK, Refusal
from flows.workspace.console import console, table

HEADER = ("video_id", "start", "end", "text", "split")
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_NAMED = 5  # ids in a line


def import_annotations(
    csvs: Sequence[Path], media: Path, out: Path, frozen: Path | None, workers: int
) -> dict[str, Any]:
    """Import what can be imported; return the report, which is also written.

    Args:
        csvs: files of descriptions; a name with ``train``, ``val`` or ``test`` in it tells the split.
        media: folder of local videos.
        out: folder to write.
        frozen: list to keep to; None for ``out``'s own, which is made where there is none.
        workers: threads that decode and encode.

    Raises:
        Refusal: a file or folder is not there, or no row is left.
    """
    _must_exist(csvs, media)
    own = out / "frozen.json"
    known = read_frozen(frozen or own) if frozen is not None or own.exists() else None
    wanted, refused, rows = read_wanted(csvs)
    listed = [one for one in wanted if known is None or is_of(known, one.entry)]
    (out / "clips").mkdir(parents=True, exist_ok=True)
    at_hand = find_media(media, {one.id for one in listed}, apart=out / "clips")
    used, missing, kept = _bring_all(listed, at_hand, out / "clips", workers, refused)
    if known is None and used:
        known = freeze(own, [one.entry for one in used])
    _write_annotations(out / "annotations.csv", used)
    here = {one.id for one in used}
    report = {
        "rows": rows,
        "used": len(used),
        "splits": dict(sorted(Counter(one.split or "drawn" for one in used).items())),
        "missing": {"count": len(missing), "share": len(missing) / max(1, len(listed)), "ids": missing},
        "refused": refused,
        "kept_without_media": kept,
        "frozen": None if known is None else {
            "sha256": known["sha256"],
            "sha256_now": digest_of([one.entry for one in used]),
            "gone": sorted(set(known["rows"]) - here),
            "not_in_list": sorted({one.id for one in wanted} - {one.id for one in listed}),
        },
        "clips": str(out / "clips"),
        "annotations": str(out / "annotations.csv"),
    }  # fmt: skip
    write_json(out / "report.json", report)
    if not used:
        raise Refusal(
            f"none of {rows} rows can be used: {len(missing)} without a media file below {media}, "
            f"{len(refused)} refused{_reasons(refused)}; see {out / 'report.json'}"
        )
    return report


def show(report: dict[str, Any]) -> int:
    """Print the report for people."""
    made = table("clips", "", right=("clips",))
    splits = ", ".join(f"{name} {count}" for name, count in report["splits"].items())
    missing, frozen = report["missing"], report["frozen"]
    made.add_row(str(report["used"]), f"used ({splits}), of {report['rows']} rows")
    made.add_row(str(missing["count"]), f"without a media file, {missing['share']:.1%}{_some(missing['ids'])}")
    made.add_row(str(len(report["refused"])), f"refused{_reasons(report['refused'])}")
    if report["kept_without_media"]:
        kept = report["kept_without_media"]
        made.add_row(str(len(kept)), f"cut earlier, their media are gone{_some(kept)}")
    if frozen["not_in_list"]:
        made.add_row(str(len(frozen["not_in_list"])), f"not in the frozen list, left out{_some(frozen['not_in_list'])}")
    if frozen["gone"]:
        made.add_row(str(len(frozen["gone"])), f"GONE from the frozen list{_some(frozen['gone'])}")
    out = console()
    out.print(made)
    whole = "all of it is here" if not frozen["gone"] else "results do not compare with those on the whole list"
    out.print(f"\nfrozen list {frozen['sha256'][:16]}: {whole}", markup=False)
    out.print(
        f"To use it: section corpus of params.yaml, kind folder, root {report['clips']}, "
        f"annotations {report['annotations']}",
        markup=False,
        soft_wrap=True,
    )
    return OK


def _must_exist(csvs: Sequence[Path], media: Path) -> None:
    for path in csvs:
        if not path.is_file():
            raise Refusal(f"{path}: no such file")
    if not media.is_dir():
        raise Refusal(f"{media}: no such folder")


def _bring_all(
    listed: Sequence[Wanted], at_hand: dict[str, list[Path]], clips: Path, workers: int, refused: list[Refused]
) -> tuple[list[Wanted], list[str], list[str]]:
    """Return the rows whose part is in ``clips``, the ids without media, and those cut earlier whose media are gone."""
    used, missing, kept = [], [], []
    pool = ThreadPoolExecutor(workers)  # the decoder and the encoder release Python's lock
    try:
        made = pool.map(lambda one: _bring(one, at_hand.get(one.id, []), clips / f"{one.id}.mp4"), listed)
        for one, problem in progress(zip(listed, made, strict=True), "import", len(listed)):
            if problem is not None:
                refused.append(problem)
            elif one.id in at_hand or (clips / f"{one.id}.mp4").exists():
                used.append(one)
                kept += [] if one.id in at_hand else [one.id]
            else:
                missing.append(one.id)
    finally:
        pool.shutdown(cancel_futures=True)
    return used, sorted(missing), sorted(kept)


def _bring(one: Wanted, candidates: Sequence[Path], target: Path) -> Refused | None:
    """Cut a row's part from the first file that has it; return why none has."""
    import av

    if target.exists() and label_of(target) == one.label:
        return None
    if not candidates and target.exists():
        return one.refused("no_media", f"no media file, and {target} was cut from other times")
    problem = None
    for path in candidates:
        try:
            cut(path, one.start_s, one.end_s, target, one.label)
        except MediaError as error:
            problem = problem or one.refused(error.reason, f"{path}: {error.detail}")
        except av.error.FFmpegError as error:
            if error.errno in _DISK:
                raise
            problem = problem or one.refused("unreadable", f"{path}: {error.strerror}")
        else:
            return None
    return problem


def _write_annotations(path: Path, used: Sequence[Wanted]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for one in sorted(used, key=lambda one: one.id):
        writer.writerow((one.id, "0", f"{one.end_s - one.start_s:g}", one.text, one.split))
    with atomic_file(path) as part:
        part.write_text(text.getvalue(), encoding="utf-8")


def _reasons(refused: Sequence[Refused]) -> str:
    counts = Counter(row["reason"] for row in refused)
    return f" ({', '.join(f'{reason} {count}' for reason, count in sorted(counts.items()))})" if counts else ""


def _some(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    return f": {', '.join(ids[:_NAMED])}{more}" if ids else ""
