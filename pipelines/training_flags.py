"""The command line of celebface train, and what it stands for."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from celebface.indexing import storage
from celebface.models.encoder_card import EncoderCard
from celebface.models.networks import SMALL_INCEPTION
from celebface.models.precision import PRECISIONS
from celebface.models.training_config import AUGMENTATIONS, FROZEN, LAYERS, MINING, Augmentation, TrainingConfig
from celebface.models.weights import encoder_folder
from celebface.pipelines import arguments
from celebface.pipelines.arguments import Parser, UsageError
from celebface.pipelines.embedder import EVERY_FACE
from celebface.pipelines.training_run import RunConfig, Weights
from celebface.transforms.encoders import read_encoder

_DESCRIPTION = "celebface train: an encoder trained with the triplet loss, from the pre-trained one or from scratch."
SCRATCH, PRETRAINED = "scratch", "pretrained"

_EXAMPLES = """\
  celebface train --images people/ --output encoder
  celebface train --gallery galleries/celebrities --layers last_block --output encoder
  celebface train --images lfw/train --init scratch --output small --test_images lfw/dev
"""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What flags that are not given stand for.

    Attributes:
      mining: One of `siamese.MINERS`.
      people_per_batch: P.
      photos_per_person: K.
      singles_per_batch: People with one photo that are added.
      margin: alpha, in D.
      learning_rate: After the warm-up.
      warmup_steps: In which it rises.
      weight_decay: See `TrainingConfig`.
      max_steps: Steps at most.
      evaluate_every: Steps.
      far: The false match rate whose VAL decides.
      augmentation: One of `AUGMENTATIONS`.
    """

    mining: str
    people_per_batch: int
    photos_per_person: int
    singles_per_batch: int
    margin: float
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    max_steps: int
    evaluate_every: int
    far: float
    augmentation: str


# By what is trained; benchmarks/siamese.md tells how they were found.
_RECIPES = {
    SCRATCH: Recipe("batch_all", 15, 4, 0, 0.5, 2e-3, 50, 0.02, 3600, 200, 1e-2, "strong"),
    "all": Recipe("semi_hard", 16, 3, 16, 0.5, 1e-5, 20, 0.0, 200, 40, 1e-3, "light"),
    "last_block": Recipe("semi_hard", 32, 4, 32, 0.5, 5e-5, 10, 0.0, 100, 20, 1e-3, "light"),
    "head": Recipe("semi_hard", 64, 4, 64, 0.5, 5e-5, 20, 0.0, 100, 20, 1e-3, "none"),
    "offset": Recipe("semi_hard", 64, 4, 64, 0.5, 1e-2, 0, 0.0, 100, 20, 1e-3, "none"),
}


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
      images: URI of the folder of people; empty if a gallery is given.
      gallery: URI of the gallery.
      init: URI of the encoder to start from; empty to start from random weights.
      output: URI of the folder that the encoder is written to.
      test_images: URI of a folder of other people to measure with; may be empty.
      training: How the network is trained.
      run: When the run evaluates and ends.
      augmentation: How strongly faces are changed.
      people_per_batch: P.
      photos_per_person: K.
      singles_per_batch: People with one photo that are added.
      validation_share: Share of the people who are not trained on.
    """

    images: str
    gallery: str
    init: str
    output: str
    test_images: str
    training: TrainingConfig
    run: RunConfig
    augmentation: Augmentation
    people_per_batch: int
    photos_per_person: int
    singles_per_batch: int
    validation_share: float

    @property
    def decides(self) -> list[Any]:
        """All that decides the weights but the faces and the encoder that it starts from."""
        parts = dataclasses.asdict(self)
        places = ("images", "gallery", "init", "output", "test_images")
        return [value for name, value in parts.items() if name not in places]


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = Parser("train", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--images", metavar="FOLDER", help="photos of people, <name>/<photo>.jpg, local or in a store")
    parser.add_argument(
        "--gallery",
        metavar="PLACE",
        help="a published gallery, <root>/<name> or <root>/<name>/<version>: the crops of its faces",
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the encoder goes")
    parser.add_argument(
        "--init",
        default=PRETRAINED,
        metavar="ENCODER",
        help=f"{PRETRAINED}: the encoder that fetch-models brought; {SCRATCH}: a small network with random weights; or "
        "the folder of an encoder (default: %(default)s)",
    )
    parser.add_argument(
        "--layers",
        choices=LAYERS,
        help="what is trained: all; the last block and the head; the dense layer that makes the vector; or its offset, "
        f"128 numbers (default: offset; all with {SCRATCH})",
    )
    parser.add_argument("--test_images", metavar="FOLDER", help="other people, to measure before and after, too")
    loss = parser.add_argument_group("the triplet loss", "defaults depend on what is trained")
    loss.add_argument("--margin", type=float, metavar="D", help="alpha: the distance that is to be kept")
    loss.add_argument("--mining", choices=MINING, help="which triplets are taken")
    loss.add_argument("--people_per_batch", type=arguments.positive, metavar="P", help="people in a batch")
    loss.add_argument("--photos_per_person", type=arguments.positive, metavar="K", help="photos of each")
    loss.add_argument(
        "--singles_per_batch", type=arguments.whole, metavar="N", help="people with one photo, as negatives"
    )
    loss.add_argument("--augmentation", choices=AUGMENTATIONS, help="how strongly faces are changed each time")
    course = parser.add_argument_group("the course of training")
    course.add_argument("--max_steps", type=arguments.positive, metavar="N", help="batches to learn from, at most")
    course.add_argument("--learning_rate", type=arguments.above_zero, metavar="X", help="after the warm-up")
    course.add_argument("--warmup_steps", type=arguments.whole, metavar="N", help="in which the learning rate rises")
    course.add_argument("--weight_decay", type=float, metavar="X", help="taken off weights, times the learning rate")
    course.add_argument("--evaluate_every", type=arguments.positive, metavar="N", help="steps; a checkpoint each time")
    course.add_argument(
        "--patience",
        type=arguments.positive,
        default=10,
        metavar="N",
        help="stop after so many evaluations without a better one (default: %(default)s)",
    )
    course.add_argument(
        "--far",
        type=arguments.rate,
        metavar="X",
        help=f"keep the evaluation with the largest VAL at this false match rate (default: 0.001; {SCRATCH}: 0.01)",
    )
    course.add_argument(
        "--validation_share",
        type=arguments.rate,
        default=0.2,
        metavar="X",
        help="share of the people who are not trained on (default: %(default)s)",
    )
    course.add_argument("--embedding_size", type=arguments.positive, metavar="N", help=f"with {SCRATCH} (default: 128)")
    course.add_argument(
        "--seed", type=arguments.whole, default=0, metavar="N", help="of all that chance decides (default: 0)"
    )
    course.add_argument(
        "--precision",
        choices=("auto", *PRECISIONS),
        default="auto",
        help=f"of the arithmetic; auto is bfloat16 for {SCRATCH} if this machine's processor is quicker in it",
    )
    parser.add_argument(
        "--max_failed_ratio",
        type=arguments.ratio,
        default=0.5,
        metavar="X",
        help="train nothing if more of the photos have no usable face (default: %(default)s)",
    )
    arguments.add_cache_flag(parser)
    arguments.add_reader_flags(parser, EVERY_FACE)
    args = parser.parse_args(argv)
    if bool(args.images) == bool(args.gallery):
        parser.error("name photos with --images, or a gallery with --gallery")
    return args


def read_config(args: argparse.Namespace) -> tuple[TrainConfig, tuple[EncoderCard, Weights] | None]:
    """The run that is asked for, and the encoder that it starts from.

    Raises:
      BadEncoder: If that cannot be used.
      ValueError: If a value cannot be.
    """
    start = None
    init = ""
    if args.init != SCRATCH:
        init = storage.absolute(str(encoder_folder(args.cache)) if args.init == PRETRAINED else args.init)
        start = read_encoder(init)
    layers = args.layers or ("offset" if start else "all")
    if not start and layers != "all":
        raise UsageError(f"--init {SCRATCH} trains all layers: there is nothing yet that the others could keep")
    if start and args.embedding_size:
        raise UsageError(f"--embedding_size goes with --init {SCRATCH}: an encoder has its own")
    if args.augmentation and layers in FROZEN:
        raise UsageError(f"--augmentation does nothing with --layers {layers}, for which each face is looked at once")
    recipe = _RECIPES[layers if start else SCRATCH]
    chosen = {name: value for name, value in vars(args).items() if value is not None}
    recipe = dataclasses.replace(recipe, **{name: chosen[name] for name in vars(recipe) if name in chosen})
    training = TrainingConfig(
        architecture=start[0].architecture if start else SMALL_INCEPTION,
        embedding_size=start[0].embedding_size if start else args.embedding_size or 128,
        layers=layers,
        mining=recipe.mining,
        margin=recipe.margin,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        max_steps=recipe.max_steps,
        seed=args.seed,
        precision="float32" if start and args.precision == "auto" else arguments.precision(args.precision),
    )
    images, gallery, test = (
        storage.absolute(place) if place else "" for place in (args.images, args.gallery, args.test_images)
    )
    if images and storage.join(storage.absolute(args.output), "").startswith(storage.join(images, "")):
        raise UsageError("--output lies among the photos of --images: its pictures would be photos of the next run")
    if recipe.people_per_batch < 2 or recipe.photos_per_person < 2:
        raise UsageError("a batch needs two people with two photos each, or it holds no triplet")
    config = TrainConfig(
        images=images,
        gallery=gallery,
        init=init,
        output=storage.absolute(args.output),
        test_images=test,
        training=training,
        run=RunConfig(recipe.evaluate_every, args.patience, recipe.far, args.seed),
        augmentation=AUGMENTATIONS[recipe.augmentation],
        people_per_batch=recipe.people_per_batch,
        photos_per_person=recipe.photos_per_person,
        singles_per_batch=recipe.singles_per_batch,
        validation_share=args.validation_share,
    )
    return config, start
