"""Every limit that the diagnosis goes by, in one table, each with the reason; `docs/diagnosis.md` has the runs behind them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Limits. Rows are rows of the key at hand; sigma is 1.4826 times the median absolute deviation."""

    # -- not finite
    #: A gradient that overflows now and then is how loss scaling works; three in a row are not.
    nonfinite_rows: int = 3

    # -- loss spikes
    #: Long enough for a steady MAD (its error is about 8% at 128 rows), short enough to follow a falling loss.
    spike_window_rows: int = 128
    #: Before so many rows nothing is known about the noise.
    spike_least_rows: int = 32
    #: One row alone. One odd batch of two sequences stood out by 17 sigma in a healthy run; one of noise by 56.
    spike_sigmas: float = 25.0
    #: ... and by a share of the loss: averaged losses are so smooth that many sigma of them may be nothing.
    spike_share: float = 0.15
    #: Several rows close together need less, each of them: healthy runs reach 4 sigma now and then (6, one sequence a
    #: batch), but not three times within twenty rows.
    spike_several_rows: int = 3
    spike_several_sigmas: float = 6.0
    spike_several_share: float = 0.1
    #: The noise of a run is not normal: what it did by itself before, times this, is no spike.
    spike_tail: float = 2.0
    #: Half of that memory is gone after so many rows.
    spike_tail_half_life_rows: int = 2000
    #: Rows of calm that end a spike; a second one before that belongs to it.
    spike_calm_rows: int = 20

    # -- divergence
    #: A median of ten rows, three times in a row: no stretch of unlucky batches does that.
    divergence_block_rows: int = 10
    divergence_blocks: int = 3
    #: The best so far is a median of so many blocks.
    divergence_best_blocks: int = 9
    #: Half of all that was learned is lost again. A warm restart of the learning rate loses up to a quarter.
    divergence_share_of_gain: float = 0.5
    #: ... and at least that much of the best loss, and so many sigmas of single rows: a run that learned little.
    divergence_share: float = 0.1
    divergence_sigmas: float = 2.0

    # -- plateau
    #: A run is not judged before so many rows of its loss.
    plateau_least_rows: int = 1000
    #: Over the last half of the rows the loss falls by less than this share, its error (2 standard errors) included.
    #: A power law with the exponent of language models (0.05 to 0.1) falls by 3 to 7%.
    plateau_share: float = 0.005
    #: A slower fall goes on, all the same, where it is sure and the half before fell no more than so many times as much:
    #: a power law's falls shrink by half at most from one doubling of the steps to the next.
    plateau_slowing: float = 0.25
    #: ... and where it is more than that: in a hundred thousand rows the least drift is sure.
    plateau_least_share: float = 0.0005
    #: Below that share of its peak the learning rate has been taken away on purpose.
    plateau_least_rate: float = 0.5

    # -- stalled
    #: Collective operations give up after ten minutes; evaluations and checkpoints seldom take longer than this.
    stall_seconds: float = 900.0
    #: Before the first rows data is prepared and models are compiled.
    stall_first_seconds: float = 3600.0
    stall_first_rows: int = 10
    #: A run that logs every hour is not stalled after fifteen minutes: so many usual gaps, and longest ones.
    stall_usual_gaps: float = 20.0
    stall_longest_gaps: float = 3.0

    # -- throughput
    #: The first values have compilation and cold caches in them.
    throughput_skipped_rows: int = 5
    throughput_block_rows: int = 8
    throughput_blocks: int = 3
    #: A shared machine varies by a third; a data loader that cannot follow, or a card that lost its clock, by half.
    throughput_share: float = 0.6
    throughput_seconds: float = 60.0

    # -- straggling rank
    #: Ranks of one job differ by a few percent; what makes all others wait by a third is worth a look.
    straggler_share: float = 1.3
    straggler_rows: int = 32
    straggler_checks: int = 3
    #: A rank whose rows have stopped coming while others go on: so many of its usual steps, and seconds, behind.
    straggler_behind_rows: float = 20.0
    straggler_behind_seconds: float = 120.0
    straggler_least_rows: int = 50

    # -- a GPU unlike the others
    #: Two minutes of samples every two seconds; the samples of one evaluation or checkpoint are fewer than half.
    odd_gpu_samples: int = 64
    odd_gpu_checks: int = 3
    #: Below so much of the others' median. Cards of one job are within a few percent of each other.
    odd_gpu_share: float = 0.8
    #: Of two or three cards nobody can tell which is the odd one.
    odd_gpu_others: int = 3

    # -- machine: held for so many seconds, in so many samples, with no more than a fifth of them otherwise
    #: Evaluations on the host and checkpoints take a minute or two.
    idle_percent: float = 5.0
    idle_seconds: float = 300.0
    #: A card that never did more is not the one that trains.
    idle_used_percent: float = 20.0
    #: An allocator that fills the card by design stops at about 95%.
    gpu_memory_percent: float = 98.0
    gpu_memory_seconds: float = 60.0
    #: Behind it stands the kernel, which ends the training without a word.
    host_memory_percent: float = 95.0
    host_memory_seconds: float = 30.0
    #: Data-centre cards slow down between 85 and 95 °C, and run below 80.
    temperature_celsius: float = 90.0
    temperature_seconds: float = 60.0
    #: Heat, hardware or power brake. The power cap is not among them: a busy card is at its cap, as it should be.
    throttle_seconds: float = 60.0
    held_least_samples: int = 5
    held_share: float = 0.8
    #: Samples further apart say nothing about the time between.
    held_gap_seconds: float = 120.0

    #: What comes back within that time is the same finding, and is not said again.
    held_again_seconds: float = 1800.0

    # -- all
    #: Findings of one kind that are kept; further ones are counted.
    most_of_a_kind: int = 20
