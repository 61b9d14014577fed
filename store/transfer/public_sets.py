"""Pairs as well-known public data sets hold them: HelpSteer 2 and 3, PKU-SafeRLHF, Nectar, distilabel, ms-swift."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from store import import_notes
from store.db.validation import a_list, an_object, finite
from store.errors import Invalid
from store.transfer import columns, standard_rows
from store.transfer.columns import Row

HELPSTEER_RATINGS = ("helpfulness", "correctness", "coherence", "complexity", "verbosity")


def is_helpsteer(row: Row) -> bool:
    """Tell whether a row is one of HelpSteer's: two responses and a preference, or a rated response."""
    return (
        {"response_1", "response_2", "preference_strength"} <= row.keys()
        or {"response1", "response2", "overall_preference"} <= row.keys()
        or {"response", "helpfulness", "correctness"} <= row.keys()
    )


def helpsteer(row: Row) -> Row:
    """HelpSteer 2 and 3: two responses, and from -3 (the first is much better) to 3 how strongly one is preferred."""
    if "overall_preference" in row:
        names, strength = ("response1", "response2"), "overall_preference"
    elif "preference_strength" in row:
        names, strength = ("response_1", "response_2"), "preference_strength"
    else:
        raise Invalid(
            "response",
            "one rated response",
            "two responses and their preference: the columns response and "
            f"{', '.join(HELPSTEER_RATINGS)} rate single answers, which HelpSteer's preference file compares",
        )
    preferred = finite(strength, row[strength])
    if preferred == 0:
        raise Invalid(strength, row[strength], "a preference for one response: this is a tie")
    first, second = row.get(names[0]), row.get(names[1])
    return standard_rows.paired(row, *((second, first) if preferred > 0 else (first, second)))


def pku(row: Row) -> Row:
    """PKU-SafeRLHF: two responses, which is better and which is safer; where these disagree, the row is refused."""
    ids = {
        name: row[name] for name in ("better_response_id", "safer_response_id") if row.get(name) is not None
    }
    for name, value in ids.items():
        if isinstance(value, bool) or value not in (0, 1, "0", "1", 0.0, 1.0):
            raise Invalid(name, value, "0 or 1")
    if len({int(value) for value in ids.values()}) != 1:
        raise Invalid(
            "better_response_id", ids, "better_response_id and safer_response_id that name the same response"
        )
    better = int(next(iter(ids.values())))
    return standard_rows.paired(row, row.get(f"response_{better}"), row.get(f"response_{1 - better}"))


def nectar(row: Row) -> Row:
    """Nectar: answers with ranks; the best against the worst."""
    ranked = []
    for place, item in enumerate(a_list("answers", row.get("answers"))):
        item = an_object(f"answers[{place}]", item)
        if item.get("rank") is not None and columns.filled(item.get("answer")):
            ranked.append((-finite(f"answers[{place}].rank", item["rank"]), item["answer"]))
    return best_against_worst(row, ranked, "answers", "rank")


def distilabel(row: Row) -> Row:
    """distilabel: generations and their ratings; the best against the worst."""
    name = "ratings" if "ratings" in row else "rating"
    generations, ratings = a_list("generations", row.get("generations")), a_list(name, row.get(name))
    if len(generations) != len(ratings):
        raise Invalid(name, len(ratings), f"as many ratings as there are generations, {len(generations)}")
    scored = [
        (finite(f"{name}[{place}]", rating), said)
        for place, (said, rating) in enumerate(zip(generations, ratings, strict=True))
        if columns.filled(rating) and columns.filled(said)
    ]
    return best_against_worst(row, scored, "generations", name)


def best_against_worst(row: Row, scored: list[tuple[float, Any]], field: str, by: str) -> Row:
    """Return a pair of the answer with the highest and the one with the lowest score. Raises `Invalid`."""
    if len(scored) < 2:
        raise Invalid(field, len(scored), f"at least two {field} with a {by}")
    best, worst = max(scored, key=lambda s: s[0]), min(scored, key=lambda s: s[0])
    if best[0] == worst[0]:
        raise Invalid(field, best[0], f"answers that differ in their {by}: this is a tie")
    if len(scored) > 2:
        import_notes.rule("best_against_worst")
    return standard_rows.paired(row, best[1], worst[1])


def ms_swift(row: Row) -> Row:
    """ms-swift: messages that end with the chosen answer (or a response), and the rejected one in a column of its own."""
    columns.check_preference(row)
    if not columns.filled(row.get("messages")):
        return standard_rows.paired(
            row, row.get("response"), row.get("rejected_response") or row.get("rejected_messages")
        )
    before = columns.lead(row)
    chosen = columns.after(before, columns.read(row["messages"], "messages"))
    last = chosen[-1] if chosen else None
    if not isinstance(last, Mapping) or last.get("role") != "assistant":
        raise Invalid("messages", row["messages"], "messages that end with the chosen answer")
    if columns.filled(other := row.get("rejected_messages")):
        rejected = columns.after(before, columns.read(other, "rejected_messages"))
    else:
        said = columns.side(row.get("rejected_response"), "rejected_response")
        answer = [{"role": "assistant", "content": said}] if isinstance(said, str) else said
        if not isinstance(answer, list):
            raise Invalid("rejected_response", said, "text or a message list")
        rejected = [*chosen[:-1], *answer]
    return {**standard_rows.extra(row), "chosen": chosen, "rejected": rejected}
