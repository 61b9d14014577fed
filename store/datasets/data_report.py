"""What a snapshot holds and what was left out.

Measured while it is built, read by people before they train.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from store.db.database import Cursor
from store.db.rows import fetch_all, fetch_one, scalar
from store.feedback import raters

SAMPLE = 500
# Likes keep no counts of characters beside their text.
_CHARACTERS = "list_sum(list_transform({0}, lambda m: length(m.content)))"

# Who decided the rows that are trained on: people, imports, or the kinds of made rows.
_WEIGHT_SHARES = """
select coalesce(made_seqs.kind, if(members.imported, 'import', 'people')) as kind,
    round(sum(members.weight) / sum(sum(members.weight)) over (), 6) as share
from members
left join made_seqs using (seq)
where split = 'train'
group by all
order by share desc, kind
"""


def measure(cursor: Cursor, method: str, deployment: str) -> dict[str, Any]:
    """Return the report of the members that `store.datasets.selection` picked.

    Keys: train_rows, heldout_rows, train_prompts, heldout_prompts, dropped (reason -> rows), lengths (part ->
    mean, median and p95 in characters), mean_weight, by_source, weight_shares (people, import, rules, judge, release,
    distilled -> share of the weight in train), raters (how many people stand
    behind the rows); for pairs also agreement (Krippendorff's alpha of the deployment's votes) and chosen_longer, the share
    of the pairs with answers of different length in which the longer one was chosen; for likes `liked`, the share of the
    answers that were. What `languages` gives is to be added.
    """
    table, parts = {
        "dpo": ("pairs", ("prompt", "chosen", "rejected")),
        "sft": ("demonstrations", ("prompt", "completion")),
        "kto": ("likes", ("prompt", "completion")),
    }[method]
    counts = fetch_one(
        cursor,
        """
        with prompts as (
            select split, count(*) as rows, sum(weight) as weight from members group by prompt_key, split
        )
        select coalesce(sum(rows) filter (split = 'train'), 0)::bigint as train_rows,
            coalesce(sum(rows) filter (split = 'heldout'), 0)::bigint as heldout_rows,
            count(*) filter (split = 'train') as train_prompts,
            count(*) filter (split = 'heldout') as heldout_prompts,
            sum(weight) / sum(rows) as mean_weight,
            (select count(distinct person) from row_supporters semi join members using (seq)) as raters
        from prompts
        """,
    )
    sizes = {part: f"{part}_chars" if method != "kto" else _CHARACTERS.format(part) for part in parts}
    measures = ", ".join(
        f"avg({size}) as {part}_mean, quantile_disc({size}, [0.5, 0.95]) as {part}_quantiles"
        for part, size in sizes.items()
    )
    longer = (
        "avg((chosen_chars > rejected_chars)::int) filter (chosen_chars <> rejected_chars)"
        if method == "dpo"
        else "null"
    )
    lengths = fetch_one(
        cursor,
        f"select {measures}, {longer} as chosen_longer from {table} where seq in (select seq from members)",
    )
    sources = fetch_all(
        cursor,
        f"""
        select source, count(*) as rows
        from {table}
        where seq in (select seq from members)
        group by source
        order by rows desc, source
        """,
    )
    report: dict[str, Any] = {
        **counts,
        "dropped": {
            row["reason"]: row["rows"] for row in fetch_all(cursor, "select reason, rows from dropped")
        },
        "lengths": {
            part: {
                "mean": lengths[f"{part}_mean"],
                "median": lengths[f"{part}_quantiles"][0],
                "p95": lengths[f"{part}_quantiles"][1],
            }
            for part in parts
        },
        "by_source": {row["source"]: row["rows"] for row in sources},
        "weight_shares": {row["kind"]: row["share"] for row in fetch_all(cursor, _WEIGHT_SHARES)},
    }
    if method == "dpo":
        report["chosen_longer"] = lengths["chosen_longer"]
        report["agreement"] = raters.alpha(cursor, deployment)
    if method == "kto":
        report["liked"] = scalar(
            cursor, "select avg(liked::int) from likes where seq in (select seq from members)"
        )
    return report


def sample(cursor: Cursor, table: str) -> list[str]:
    """Return the beginnings of the last messages of at most `SAMPLE` prompts, the same for the same members."""
    rows = cursor.execute(
        f"""
        select left(prompt[-1].content, 500)
        from {table}
        where seq in (select seq from members order by content_hash limit {SAMPLE})
        """
    ).fetchall()
    return [row[0] for row in rows]


def languages(texts: list[str]) -> dict[str, float]:
    """Return the ten most frequent languages of texts, by py3langid: ISO 639-1 code -> share.

    The first call of a process loads the model, for half a second.
    """
    import py3langid

    found = Counter(str(py3langid.classify(text)[0]) for text in texts)
    return {language: round(count / len(texts), 4) for language, count in found.most_common(10)}


def to_markdown(facts: dict[str, Any]) -> str:
    """Return the report as a Markdown page; `facts` is what snapshot.json holds."""
    report = facts["report"]
    lines = [
        f"# Snapshot {facts['hash']}",
        "",
        f"{facts['method'].upper()} rows for `{facts['deployment']}`.",
        "",
        "| | rows | prompts |",
        "| --- | ---: | ---: |",
        f"| train | {report['train_rows']:,} | {report['train_prompts']:,} |",
        f"| held out | {report['heldout_rows']:,} | {report['heldout_prompts']:,} |",
        "",
        f"Mean weight {report['mean_weight']:.3f}; {report['raters']:,} raters.",
    ]
    if report.get("chosen_longer") is not None:
        lines.append(f"The longer answer was chosen in {report['chosen_longer']:.1%} of the pairs.")
    if report.get("liked") is not None:
        lines.append(f"{report['liked']:.1%} of the answers were liked.")
    if (agreement := report.get("agreement")) and agreement["alpha"] is not None:
        lines.append(
            f"Krippendorff's alpha is {agreement['alpha']:.2f}, over {agreement['comparisons']:,} comparisons with "
            f"{agreement['votes']:,} votes."
        )
    lines += _table("Characters", ("part", "mean", "median", "95 %"), [
        (part, f"{size['mean']:,.0f}", f"{size['median']:,.0f}", f"{size['p95']:,.0f}")
        for part, size in report["lengths"].items()
    ])  # fmt: skip
    lines += _table("Sources", ("source", "rows"), [(k, f"{v:,}") for k, v in report["by_source"].items()])
    if len(shares := report.get("weight_shares", {})) > 1 or set(shares) - {"people"}:
        lines += _table(
            "Who decided", ("by", "share of the weight"), [(k, f"{v:.1%}") for k, v in shares.items()]
        )
    lines += _table(
        "Languages", ("language", "share"), [(k, f"{v:.1%}") for k, v in report["languages"].items()]
    )
    lines += _table("Left out", ("why", "rows"), [(k, f"{v:,}") for k, v in report["dropped"].items()])
    lines += _table("Settings", ("setting", "value"), [(k, f"`{v}`") for k, v in facts["settings"].items()])
    return "\n".join(lines) + "\n"


def _table(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return ["", f"## {title}", "", "Nothing."]
    return [
        "",
        f"## {title}",
        "",
        "| " + " | ".join(head) + " |",
        "| " + " | ".join("---" for _ in head) + " |",
        *("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows),
    ]
