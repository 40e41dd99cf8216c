"""The triplet loss of a Siamese network, and which triplets of a batch it is taken over.

A Siamese network is one network f that sees several photos. FaceNet (Schroff et al., 2015, equations 1 and 2) asks that
an anchor A be nearer to a positive P, another photo of the same person, than to a negative N, a photo of somebody
else, by a margin alpha:

    D(A, P) + alpha <= D(A, N)      where D(x, y) = ||f(x) - f(y)||^2 and ||f(x)|| = 1
    loss(A, P, N) = max(D(A, P) - D(A, N) + alpha, 0)

Some texts on one-shot learning print the second line with D(A, P) in the place of D(A, N), too. That loss would be
alpha whatever f is; it takes the negative's distance.

The paper sums over triplets. Here the mean is taken, so that the learning rate does not depend on how many were found.
"""

from collections.abc import Callable
from typing import NamedTuple

from celebface.models.quiet_tensorflow import tf

Miner = Callable[[tf.Tensor, tf.Tensor, float], tf.Tensor]


class BatchHealth(NamedTuple):
    """What tells whether a batch still teaches, and whether the network is about to give every face the same vector.

    Attributes:
      active: Share of all valid triplets of the batch whose loss is not zero.
      positive: Mean D of the batch's pairs of one person.
      negative: Mean D of its pairs of two people.
      spread: 1 - ||mean vector||^2: 0 if all vectors are equal, 1 if they lie evenly around the sphere.
    """

    active: tf.Tensor
    positive: tf.Tensor
    negative: tf.Tensor
    spread: tf.Tensor


def squared_distances(vectors: tf.Tensor) -> tf.Tensor:
    """D between all rows.

    Args:
      vectors: float32 [N, d], unit rows.

    Returns:
      float32 [N, N], 0..4; the diagonal is 0 but for rounding.
    """
    return tf.maximum(2.0 - 2.0 * tf.matmul(vectors, vectors, transpose_b=True), 0.0)


def triplet_loss(distances: tf.Tensor, triplets: tf.Tensor, margin: float) -> tf.Tensor:
    """Mean of max(D(A, P) - D(A, N) + margin, 0).

    Args:
      distances: float32 [N, N], D between the photos of a batch.
      triplets: int64 [T, 3], rows of anchor, positive and negative; T may be 0.
      margin: alpha, in D.

    Returns:
      float32 scalar; 0 if there are no triplets.
    """
    anchor, positive, negative = tf.unstack(triplets, axis=1)
    nearer = tf.gather_nd(distances, tf.stack([anchor, positive], axis=1))
    farther = tf.gather_nd(distances, tf.stack([anchor, negative], axis=1))
    losses = tf.nn.relu(nearer - farther + margin)
    return tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(tf.size(losses), losses.dtype))


def batch_all(distances: tf.Tensor, people: tf.Tensor, margin: float) -> tf.Tensor:
    """All triplets that violate the margin.

    "Batch all" of Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017, with the mean
    over triplets whose loss is not zero: the many that are zero would drown the others.

    Args:
      distances: float32 [N, N], D between the photos of a batch.
      people: int [N], who is on each.
      margin: alpha, in D.

    Returns:
      int64 [T, 3], rows of anchor, positive and negative, in ascending order.
    """
    pairs, nearer, farther, other = _positive_pairs(distances, people)
    return _triplets(pairs, tf.where(other & (nearer - farther + margin > 0)))


def semi_hard(distances: tf.Tensor, people: tf.Tensor, margin: float) -> tf.Tensor:
    """For each pair of one person, the nearest negative that is farther than the positive, but within the margin.

    FaceNet, section 3.2: D(A, P) < D(A, N) < D(A, P) + alpha, with all pairs of anchor and positive. The hardest
    negatives, those nearer than the positive, can make the network collapse early in training. A pair without such a
    negative has no triplet.

    Args:
      distances: float32 [N, N], D between the photos of a batch.
      people: int [N], who is on each.
      margin: alpha, in D.

    Returns:
      int64 [T, 3], rows of anchor, positive and negative; of negatives equally near the first.
    """
    pairs, nearer, farther, other = _positive_pairs(distances, people)
    candidates = other & (farther > nearer) & (nearer - farther + margin > 0)
    nearest = tf.argmin(tf.where(candidates, farther, farther.dtype.max), axis=1)
    found = tf.where(tf.reduce_any(candidates, axis=1))[:, 0]
    return _triplets(pairs, tf.stack([found, tf.gather(nearest, found)], axis=1))


def batch_hard(distances: tf.Tensor, people: tf.Tensor, margin: float) -> tf.Tensor:
    """For each anchor, its farthest positive and its nearest negative ("batch hard" of Hermans et al., 2017).

    Args:
      distances: float32 [N, N], D between the photos of a batch.
      people: int [N], who is on each.
      margin: Not used: triplets that keep it count as well, with a loss of zero.

    Returns:
      int64 [T, 3], rows of anchor, positive and negative: one for each photo whose person has another and that has
      somebody else beside it; of equals the first.
    """
    del margin
    same = people[:, None] == people[None, :]
    positives = tf.linalg.set_diag(same, tf.zeros(tf.shape(people), tf.bool))
    farthest = tf.argmax(tf.where(positives, distances, -1.0), axis=1)
    nearest = tf.argmin(tf.where(same, distances.dtype.max, distances), axis=1)
    anchors = tf.where(tf.reduce_any(positives, axis=1) & ~tf.reduce_all(same, axis=1))[:, 0]
    return tf.stack([anchors, tf.gather(farthest, anchors), tf.gather(nearest, anchors)], axis=1)


MINERS: dict[str, Miner] = {"batch_all": batch_all, "batch_hard": batch_hard, "semi_hard": semi_hard}


def batch_health(vectors: tf.Tensor, distances: tf.Tensor, people: tf.Tensor, margin: float) -> BatchHealth:
    """Looks at a batch.

    Args:
      vectors: float32 [N, d], unit rows.
      distances: float32 [N, N], D between them.
      people: int [N], who is on each.
      margin: alpha, in D.
    """
    _, nearer, farther, other = _positive_pairs(distances, people)
    active = other & (nearer - farther + margin > 0)
    different = people[:, None] != people[None, :]
    return BatchHealth(
        active=tf.math.divide_no_nan(_count(active), _count(other)),
        positive=tf.math.divide_no_nan(tf.reduce_sum(nearer), tf.cast(tf.size(nearer), tf.float32)),
        negative=tf.math.divide_no_nan(tf.reduce_sum(tf.where(different, distances, 0.0)), _count(different)),
        spread=1.0 - tf.reduce_sum(tf.square(tf.reduce_mean(vectors, axis=0))),
    )


def _positive_pairs(distances: tf.Tensor, people: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """All pairs of anchor and positive.

    Returns:
      int64 [M, 2], the pairs; float32 [M, 1], their D; float32 [M, N], D of their anchors to all photos; bool [M, N],
      which of these are of somebody else.
    """
    same = people[:, None] == people[None, :]
    pairs = tf.where(tf.linalg.set_diag(same, tf.zeros(tf.shape(people), tf.bool)))
    anchors = pairs[:, 0]
    return pairs, tf.gather_nd(distances, pairs)[:, None], tf.gather(distances, anchors), ~tf.gather(same, anchors)


def _triplets(pairs: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Pairs, and int64 [T, 2] (number of a pair, negative), to int64 [T, 3]."""
    return tf.concat([tf.gather(pairs, chosen[:, 0]), chosen[:, 1:]], axis=1)


def _count(mask: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.math.count_nonzero(mask), tf.float32)
