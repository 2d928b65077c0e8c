"""What can be changed about the reading of plates without training a model again."""

from __future__ import annotations

from dataclasses import dataclass, field

from carsight.detector import DetectorTuning
from carsight.plate.reader import ReaderTuning
from carsight.plate.vehicles import ClassifierTuning


@dataclass(frozen=True, slots=True)
class PlateTuning:
    """What can be changed about the recognizer without training a model again.

    Scores are 0..1, heights in pixels of the photo as it was sent, shapes the width in heights.
    """

    # -- which pixels, and how many rows ---------------------------------------------------------------------

    fine_height: float = 24.0
    """A plate lower than this in a reduced decode, in its pixels, is read from the full one: its strokes are
    thinner than a pixel."""
    one_row: float = 0.1
    """From this probability of two rows on a plate is read as one of two and as one of one, ..."""
    two_rows: float = 0.9
    """... up to this."""
    square: float = 1.8
    """So is one less wide, whatever the detector thinks: plates of two rows are rare in its training."""
    two_rows_favor: float = 0.6
    """Two rows win from this share of the score of one: the large row alone reads well, but is half a plate.
    Where both say the same the surer one counts. Two rows that are the likelier and score that much are not
    read as one: it could not win."""
    either: float = 2.6
    """One less wide is read with the other number of rows, too, where the text is unsure. That has to be
    ``sure`` and of one of its region's series: the words on a plate are no row."""

    # -- when the lean net's reading stands ------------------------------------------------------------------
    #
    # It reads first. Where its reading does not stand the other net reads, and small print is read by
    # whichever read the plate. An American text has to be of one of its region's series.

    easy_region: float = 0.7
    """What its region has to score, ..."""
    easy_state: float = 0.6
    """... and where that is a state."""
    obvious: float = 0.93
    """By one cut: what its text has to score, ..."""
    distinct: float = 0.63
    """... and each of its characters."""
    promising: float = 0.8
    """By two cuts, a wider one of which tells the same: what each has to score, ..."""
    easy: float = 0.9
    """... and the vote of both."""
    filling: float = 0.5
    """On a plate of more than this share of the photo's width each character has to be ``distinct``: a wider
    cut shows little more."""
    blank: float = 0.001
    """Below this it is believed that nothing is legible, unless that is certainly a plate."""

    # -- when a plate is cut again ---------------------------------------------------------------------------

    sure: float = 0.9
    """A reading below this is made again from other cuts, as the corners may be at fault; one is longer, one
    upright. Of 359 training plates whose first reading scores 0.65 to 0.95, 312 are right then, and 305 where
    only those below 0.7 are read again."""
    hopeless: float = 0.05
    """Below this that is only done for what is certainly a plate, and once more with both cuts grown, as
    characters may be cut off. Upside down the lean net is believed that nothing is legible."""
    wider: float = 0.06
    """How much longer the longer cut is at each end, in widths."""
    loose: float = 0.15
    """How far the grown cuts are grown."""
    blurred: float = 29.0
    """A plate lower than this, in the pixels it is read from, is cut with sharper pixels as well: it is
    enlarged a good deal."""
    print_height: float = 28.0
    """A plate at least this high, in the pixels it is read from, may have letters that stand on each other
    and small print above and below the text. The print is read where the region is in doubt, for the names
    and mottoes of regions; the letters are spread where an American plate is still unsure."""
    unstacked: float = 0.5
    """What spread letters have to score, and more than before."""

    mirrored: float = 0.5
    """A plate that is certainly one is read mirrored, too, where its text scores less: front cameras and
    mirrors show it so. That has to be ``sure``, ..."""
    mirrored_odds: float = 30.0
    """... and so many times as good a bet: of 253 unsure plates of training photos, none of them mirrored,
    the best would be 18 times as good. JUL51W, which reads W12JUL in a mirror, scores more than a half."""

    # -- what is answered ------------------------------------------------------------------------------------

    certain_plate: float = 0.65
    """What a detection scores that is certainly a plate; it has to be ``least_height`` high besides."""
    legible: float = 0.02
    """What the text of such a plate has to score."""
    plausible: float = 0.1
    """What that of a lesser one has to, and to hold a digit: signs and grilles look like plates, and words on
    signs hold none."""
    convincing: float = 0.9
    """The same of one that the detector doubts."""
    least_height: float = 12.0
    """Of a lower plate the refusal says that it is too small; it is not read upside down."""
    smallest: float = 6.0
    """A lower one is not read at all: of 120 such plates three would be answered, none of them with what it
    says."""
    most_vehicles: int = 20
    """How many vehicles without a plate are described, since each takes time."""

    # -- what is a sign --------------------------------------------------------------------------------------
    #
    # What no vehicle carries and says something that is of no country's series is a sign, as are dates and
    # telephone numbers: of 4,300 labeled plates outside the four countries where many owners choose their
    # text 26 say such a thing, most of them on vehicles.

    clear: float = 0.6
    """What these four have to score together for such a text to be a plate's all the same."""
    fewest: int = 4
    """A text of fewer characters is a sign whatever it says, as houses have such, ..."""
    small_at_edge: tuple[float, float] = (0.4, 0.12)
    """... and so is one of less than these shares of the photo's width and height next to its upper or lower
    edge, where cameras write; real plates stand there higher than that in photos cut to them, ..."""
    clear_alone: float = 0.9
    """... unless its region scores this."""
    clear_of_words: float = 0.97
    """So is what ``writing`` knows, unless its region scores this away from those edges; or, on a vehicle,
    where fleet numbers stand and whose box may reach into the photo's corners, ``clear``. And digits alone,
    of whatever series, are no sign where a region that lists none scores this."""
    fit_of_digits: float = 0.2
    """Digits alone are of some country's series whatever they count: how likely, by its looks alone, the
    plate has to be from one of those countries, unless its region scores ``clear_alone``."""

    # -- which way up the photo stands -----------------------------------------------------------------------

    upright: float = 0.9
    """Where no text scores this each is read upside down, too."""
    settled: float = 0.3
    """Where that says more, or no text scores this, the photo is looked at the other ways up."""
    turned: float = 0.5
    """What the best text has to score for another way up to win. It must not be what the photo's own is
    upside down: "1000" may be "0001" as well, and then the photo is believed to be upright."""
    turn_odds: float = 8.0
    """How many times as good a bet that text has to be where the photo's own is on a vehicle, which is hardly
    seen upside down, ..."""
    alike_odds: float = 100.0
    """... and where it is what that may be misread for."""
    high: float = 0.45
    """A plate less than this share of its vehicle's height below the top stands high, as 8 in 100 do in
    photos that stand upright: ..."""
    high_upright: float = 0.99
    """... it is read upside down below this ..."""
    high_odds: float = 2.0
    """... and this takes the place of the other odds."""

    # -- where it is said to be ------------------------------------------------------------------------------

    flat: float = 2.2
    """The box of a plate whose corners span this many times as much one way as the other is drawn in the
    narrow way, towards them: a few pixels too many count most there."""
    flat_shrink: float = 0.27
    """How far. Of 3,470 training plates 78 boxes overlap the labeled one by less than a half, of those left
    as they are 89; their mean overlap is 0.80 either way."""

    # -- plates that the photo's edge may cut ----------------------------------------------------------------

    near_edge: float = 0.15
    """A plate one end of which is nearer to the photo's edge than this, in heights, may be cut by it, ..."""
    near_edge_off_series: float = 0.3
    """... or nearer than this where its text is of no series of its region, ..."""
    far_edge: float = 1.0
    """... unless its other end is no farther than this from the opposite edge: such a photo is cut to it."""
    cut: float = 0.4
    """How likely all of its text is to be seen: of 120 plates of validation photos that were cut anywhere,
    with a text of a series, 52 are read as a whole, ..."""
    cut_off_series: float = 0.1
    """... and with a text of none 2 of 63."""

    # -- photos that may be cut out along the text -----------------------------------------------------------

    cropped: tuple[float, float] = (2.5, 9.0)
    """Shapes, from and to, of a photo without a vehicle that is read as one more plate, ..."""
    cropped_score: float = 0.2
    """... which the detector doubts at this score, ..."""
    cropped_share: float = 0.3
    """... unless one was found that is less than this share of it."""

    # -- the nets --------------------------------------------------------------------------------------------

    detector: DetectorTuning = field(default_factory=lambda: DetectorTuning(doubtful=0.2))
    reader: ReaderTuning = field(default_factory=ReaderTuning)
    classifier: ClassifierTuning = field(default_factory=ClassifierTuning)
