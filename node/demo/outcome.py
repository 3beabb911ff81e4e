"""What a replay found, for people and for programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from node.otc import Figures


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything is measured or proven: scores were read with proofs (rpc.light).

    `transactions` were sent and `committed` are in blocks; `failed` of those had no effect,
    `refused` were not taken, both by reason. `seconds` from the first submission to the last
    commit. `state_roots` are those of the validators (by `urls`) at `height`; `epoch` is the one
    whose scores were read.
    """

    people: int
    ratings: int
    transactions: int
    committed: int
    failed: dict[str, int]
    refused: dict[str, int]
    seconds: float
    figures: Figures
    proven: int
    epoch: int
    height: int
    urls: tuple[str, ...]
    state_roots: tuple[str, ...]

    @property
    def tx_per_second(self) -> float:
        """Committed a second."""
        return self.committed / self.seconds if self.seconds else 0.0

    @property
    def is_sound(self) -> bool:
        """Every transaction is committed and had its effect, and the validators agree."""
        return (
            self.committed == self.transactions
            and not self.failed
            and len(set(self.state_roots)) == 1
        )

    def as_object(self) -> dict[str, Any]:
        """One JSON object."""
        figures = self.figures
        return {
            "people": self.people,
            "ratings": self.ratings,
            "transactions": self.transactions,
            "committed": self.committed,
            "failed": self.failed,
            "refused": self.refused,
            "seconds": round(self.seconds, 3),
            "tx_per_second": round(self.tx_per_second, 1),
            "auc_quality": round(figures.auc_quality, 6),
            "auc_standing": round(figures.auc_standing, 6),
            "auc_mean_rating": round(figures.auc_mean_rating, 6),
            "frauds_at_zero": round(figures.frauds_without_standing, 6),
            "trusted_at_zero": round(figures.trusted_without_standing, 6),
            "scores_proven": self.proven,
            "epoch": self.epoch,
            "height": self.height,
            "validators": list(self.urls),
            "state_roots": list(self.state_roots),
        }

    def as_text(self) -> RenderableType:
        """Three small tables."""
        return Group(self._ledger(), "", self._scores(), "", self._roots())

    def _ledger(self) -> Table:
        table = _plain("Transactions")
        table.add_row("sent", f"{self.transactions:,}")
        table.add_row("committed", f"{self.committed:,}")
        for word, counts in (("without effect", self.failed), ("refused", self.refused)):
            for reason, count in counts.items():
                table.add_row(word, f"{count:,}  {reason}")
        table.add_row("time", f"{self.seconds:.1f} s")
        table.add_row("rate", f"{self.tx_per_second:,.0f} a second")
        return table

    def _scores(self) -> Table:
        figures = self.figures
        table = _plain(f"Scores of epoch {self.epoch}, {self.proven} proofs checked")
        table.add_row("AUC of quality", f"{figures.auc_quality:.4f}")
        table.add_row("AUC of standing", f"{figures.auc_standing:.4f}")
        table.add_row("AUC of the plain mean rating", f"{figures.auc_mean_rating:.4f}")
        table.add_row("labelled frauds at standing 0", f"{figures.frauds_without_standing:.1%}")
        table.add_row("labelled trusted at standing 0", f"{figures.trusted_without_standing:.1%}")
        return table

    def _roots(self) -> Table:
        table = _plain(f"State root at height {self.height}")
        for url, root in zip(self.urls, self.state_roots, strict=True):
            table.add_row(url, root)
        return table


def counts(found: dict[str, int]) -> dict[str, int]:
    """By reason, the most frequent first."""
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _plain(title: str) -> Table:
    table = Table(
        title=title, title_justify="left", show_header=False, box=None, padding=(0, 2), expand=False
    )
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table
