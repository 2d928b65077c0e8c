"""Settings for reading plates that can be changed without training a model again."""

from __future__ import annotations

from typing import NamedTuple

from carsight.detector import DetectorTuning
from carsight.plate.reader import ReaderTuning
from carsight.plate.vehicles import ClassifierTuning


class PlateTuning(NamedTuple):
    """Settings of the plate recognizer.

    Scores are 0..1, heights are in pixels of the full photo unless stated otherwise, and shapes are width
    divided by height.
    """

    # -- which pixels, and how many rows ---------------------------------------------------------------------

    fine_height: float = 24.0
    """A plate less high than this, in pixels of a reduced photo, is cut from the full one: its strokes would
    be thinner than a pixel."""
    one_row: float = 0.1
    """Above this probability of two rows, and below ``two_rows``, a plate is read both as one row and as
    two."""
    two_rows: float = 0.9
    """See ``one_row``."""
    square: float = 1.8
    """A plate of a lower shape is read in both ways whatever the detector says, as plates with two rows are
    rare in its training."""
    two_rows_favor: float = 0.6
    """Of both readings, that of two rows wins from this share of the other's score, as a large single row
    reads well but is half a plate. If both texts are equal, the higher score wins. A plate that more likely
    has two rows, and scores this as such, is not read as one row, which could not win."""
    either: float = 2.6
    """A plate of a lower shape whose text is unsure is also read with the other number of rows. That reading
    has to be ``sure`` and match a series of its region, as words on a plate are not a row."""

    # -- when the lean net's reading is accepted -------------------------------------------------------------
    #
    # The lean net reads first. If its reading is not accepted, the plate reader reads. The net that read the
    # plate also reads its small print. A text from the US or Canada has to match a series of its region.

    easy_region: float = 0.7
    """The region has to score this, or ``easy_state`` if it is a state."""
    easy_state: float = 0.6
    """See ``easy_region``."""
    obvious: float = 0.93
    """One cut is enough if its text scores this, and each of its characters ``distinct``."""
    distinct: float = 0.63
    """See ``obvious``."""
    promising: float = 0.8
    """Two cuts, one of them wider, are enough if both have the same text and score this, and their vote
    scores ``easy``."""
    easy: float = 0.9
    """See ``promising``."""
    filling: float = 0.5
    """If a plate is wider than this share of the photo, every character has to be ``distinct``, as a wider
    cut shows little more."""
    blank: float = 0.001
    """A lower score is accepted as illegible, unless this is certainly a plate."""

    # -- when a plate is cut again ---------------------------------------------------------------------------

    sure: float = 0.9
    """With a lower score a plate is read again from other cuts, one longer and one upright, as the corners
    may be wrong. Of 359 training plates whose first reading scores 0.65 to 0.95, 312 are then right, and 305
    if only those below 0.7 are read again."""
    hopeless: float = 0.05
    """With a lower score only what is certainly a plate is read again, then also with both cuts enlarged, as
    characters may be cut off. Upside down, a lower score of the lean net is accepted as illegible."""
    wider: float = 0.06
    """How much longer the longer cut is at each end, as a share of the width."""
    loose: float = 0.15
    """How much the enlarged cuts are enlarged, as a share of their sides."""
    blurred: float = 29.0
    """A plate less high than this, in the pixels it is cut from, is also cut with sharper pixels, as it is
    enlarged a lot."""
    print_height: float = 28.0
    """A plate at least this high, in the pixels it is cut from, may have stacked letters, and small print
    above and below the text. The print is searched for names and mottoes of regions if the region is in
    doubt; the letters are spread if a plate from the US or Canada is still unsure."""
    unstacked: float = 0.5
    """What the text with spread letters has to score; it also has to score more than before."""

    mirrored: float = 0.5
    """A certain plate whose text scores less is also read mirrored, as front cameras and mirrors show it. The
    mirrored text has to be ``sure``."""
    mirrored_odds: float = 30.0
    """The odds that the mirrored text needs, relative to the other's. Of 253 unsure plates of training
    photos, none mirrored, the best would have 18 times the odds. JUL51W, which reads W12JUL in a mirror,
    scores more than a half as it is."""

    # -- what is answered ------------------------------------------------------------------------------------

    certain_plate: float = 0.65
    """Lowest score of a detection that is certainly a plate; it also has to be ``least_height`` high."""
    legible: float = 0.02
    """Lowest score of the text of such a plate."""
    plausible: float = 0.1
    """Lowest score of the text of other detections. It also has to contain a digit: signs and grilles look
    like plates, and words on signs contain none."""
    convincing: float = 0.9
    """Lowest score of the text of a detection that scores less than the detector's threshold."""
    least_height: float = 12.0
    """A lower plate is refused as too small, and not read upside down."""
    smallest: float = 6.0
    """A lower plate is not read at all: of 120 such plates three would be answered, all of them wrongly."""
    most_vehicles: int = 20
    """How many vehicles without a plate are described, as each takes time."""

    # -- what is a sign --------------------------------------------------------------------------------------
    #
    # Without a vehicle, a text that matches no country's series is a sign. So are dates and telephone
    # numbers. Of 4,300 labeled plates outside the four countries where many owners choose their text, 26 have
    # such a text, most of them on vehicles.

    clear: float = 0.6
    """A text of no country's series is a plate's all the same if those four countries together score this."""
    fewest: int = 4
    """A text of fewer characters is a sign even if it matches a series, like a house number, unless its
    region scores ``clear_alone``."""
    small_at_edge: tuple[float, float] = (0.4, 0.12)
    """A text next to the upper or lower edge, where cameras write, is a sign if it takes less than these
    shares of the photo's width and height, unless its region scores ``clear_alone``. In photos cropped to a
    plate real ones there are higher."""
    clear_alone: float = 0.9
    """What the region of a text has to score that would be a sign by its length, its place or its digits."""
    clear_of_words: float = 0.97
    """A text that ``writing`` knows is a sign, unless its region scores this and it is not next to those
    edges. On a vehicle, where fleet numbers are and whose box may extend into the photo's corners, ``clear``
    is enough. Digits alone are not a sign if a region without listed series scores this."""
    beside_sign: float = 0.97
    """Every text without a vehicle that is beside a sure sign is one too, unless its region scores this:
    signs hang together on a board, and some have the number of a road or a room. A sure sign is one by
    itself, or a word, scores ``upright`` and is not next to those edges."""
    beside_each_sign: int = 2
    """If there are more such texts than this for each sure sign, none of them is one: that may be a table of
    plates, one of which has a text of no series."""
    fit_of_digits: float = 0.2
    """Any number of digits matches some country's series. So the countries with such a series have to score
    this together by design alone, unless the region scores ``clear_alone``."""

    # -- which way up the photo is ---------------------------------------------------------------------------

    upright: float = 0.9
    """If no text scores this, each plate is also read upside down."""
    settled: float = 0.3
    """If that reads better, or no text scores this, the photo is also searched in other orientations."""
    turned: float = 0.5
    """What the best text has to score for another orientation to win. It must not be the original text upside
    down: "1000" may also be "0001", and then the photo is taken to be upright."""
    turn_odds: float = 8.0
    """The odds that the text in another orientation needs, relative to the original text's, if that is on a
    vehicle, as upside-down vehicles are rare."""
    alike_odds: float = 100.0
    """The same if one text may be a misreading of the other upside down."""
    high: float = 0.45
    """A plate stands high if it is less than this share of its vehicle's height below the top, as 8 in 100 do
    in upright photos."""
    high_upright: float = 0.99
    """A plate that stands high is also read upside down if its text scores less than this."""
    high_odds: float = 2.0
    """Takes the place of ``turn_odds`` and ``alike_odds`` for a plate that stands high."""

    # -- where the plate is ----------------------------------------------------------------------------------

    flat: float = 2.2
    """If a plate's corners extend this many times as far in one direction as in the other, its box is moved
    towards them in the narrow direction, where a few pixels matter most."""
    flat_shrink: float = 0.27
    """How far it is moved, as a share of the distance. Of 3,470 training plates 78 boxes overlap the labeled
    one by less than a half, and 89 without this; the mean overlap is 0.80 in both cases."""

    # -- plates that the photo's edge may cut ----------------------------------------------------------------

    near_edge: float = 0.15
    """The edge may cut a plate whose end is closer to it than this, in heights of the plate."""
    near_edge_off_series: float = 0.3
    """The same for a plate whose text matches no series of its region."""
    far_edge: float = 1.0
    """Neither applies if the plate's other end is at most this far from the opposite edge, in heights: that
    photo is cropped to the plate."""
    cut: float = 0.4
    """The probability that the text is complete, by which its score is multiplied. Of 120 cut plates of
    validation photos with a text of a series, 52 were read completely."""
    cut_off_series: float = 0.1
    """The same for a text that matches no series: 2 of 63. Where owners do not choose their text it also
    applies if the photo may cut a row off above or below: 1 of 14 in validation photos cut there."""

    # -- photos that may be cropped along the text -----------------------------------------------------------

    cropped: tuple[float, float] = (2.5, 9.0)
    """A photo without a vehicle, of a shape between these, is also read as a single plate."""
    cropped_score: float = 0.2
    """The detection score of that plate."""
    cropped_share: float = 0.3
    """It is not read as such if a target was found that covers less than this share of it."""

    # -- the nets --------------------------------------------------------------------------------------------

    detector: DetectorTuning = DetectorTuning(doubtful=0.2)
    second_detector: DetectorTuning = DetectorTuning(doubtful=0.2, close_up=None, fallbacks=(), strip=None)
    """For a second net, which sees the whole photo once: with further runs it found no more."""
    second_evidence: float = 0.02
    """The second net is used if the first finds vehicles and no plate, but some cell that scores this. Of 23
    plates in 303 such views of validation photos that leaves 22, and it saves a third of the runs on photos
    without a plate."""
    reader: ReaderTuning = ReaderTuning()
    classifier: ClassifierTuning = ClassifierTuning()
