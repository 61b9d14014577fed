"""What making pairs takes: requests, verdicts, and about how long."""

from __future__ import annotations

from dataclasses import dataclass

from align.evaluation.answering.pace import Pace
from align.evaluation.suite_file import EXPECTED_ANSWER, EXPECTED_PROMPT, JUDGE_S
from common.durations import duration
from trimtab.jobs.make_pairs_plan import ByJudge, MakePlan


@dataclass(frozen=True, slots=True)
class Estimate:
    """Requests to releases and verdicts of a judge at most, and about how many seconds they take."""

    requests: int
    judgements: int
    seconds: float

    def text(self, prompts: int, heldout: int) -> str:
        """Return it as a sentence."""
        judging = f", {self.judgements} verdicts of the judge" if self.judgements else ""
        return (
            f"{prompts} prompts ({heldout} more are kept for held-out data): {self.requests} requests{judging}; "
            f"about {duration(self.seconds)} on two quiet cores with the default model, less on a GPU"
        )


def estimate(plan: MakePlan, prompts: int) -> Estimate:
    """Return what a job takes for as many prompts; verdicts on comparisons that people decided are among them."""
    requests = prompts * plan.requests_per_prompt
    judgements = prompts * plan.judgements_per_prompt
    pace = Pace()
    seconds = requests * (
        min(plan.max_tokens, EXPECTED_ANSWER) / pace.tokens_per_s
        + EXPECTED_PROMPT / pace.prompt_tokens_per_s / plan.samples
    )
    if isinstance(plan.by, ByJudge):
        judgements += 2 * plan.by.judge.voted
        seconds += judgements * JUDGE_S / plan.by.judge.concurrency
    return Estimate(requests, judgements, round(seconds, 1))
