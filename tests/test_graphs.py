import numpy as np
import pytest

from celebface.models import graphs
from celebface.models.quiet_tensorflow import tf

SLOPES = {
    "mixed": [0.25, -0.3, 1.7, 0.0, -2.0, 1.0, 0.9, 1.01, -0.01],
    "falling": [-0.3, -1.0, -2.5],
    "rising": [0.0, 0.25, 1.0],
    "steep": [1.5, 3.0, 1.01],
    "one": [-0.5],
}


def plain_prelu(x, slopes):
    return tf.where(x > 0, x, x * tf.constant(slopes, x.dtype))


def layer(channels: int, size: int = 3, inputs: int = 4, seed: int = 0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, size, inputs, channels)).astype(np.float32), rng.normal(size=channels).astype("f4")


def inputs(height: int = 17, width: int = 14, channels: int = 4) -> tf.Tensor:
    return tf.constant(np.random.default_rng(1).normal(size=(3, height, width, channels)), tf.float32)


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("relu", [False, True])
def test_a_convolution_has_its_bias_and_its_relu(padding, strides, relu):
    kernel, bias = layer(6)
    expected = tf.nn.conv2d(inputs(), kernel, strides, padding) + bias
    if relu:
        expected = tf.maximum(expected, 0)
    assert (expected.numpy() < 0).any() or relu

    assert np.abs(graphs.conv(inputs(), kernel, bias, strides, padding, relu) - expected).max() < 1e-4


def test_a_dense_layer_multiplies_and_adds():
    kernel, bias = np.random.default_rng(2).normal(size=(5, 3)), np.array([1.0, -2, 3])
    x = tf.random.stateless_normal((4, 5), (1, 2))

    assert np.abs(graphs.dense(x, kernel, bias) - (x.numpy() @ kernel + bias)).max() < 1e-5


def test_a_prelu_bends_what_is_negative():
    slopes = np.array([0.25, -0.5, 0.0, 1.0], np.float32)

    assert np.allclose(graphs.prelu(inputs(), slopes), plain_prelu(inputs(), slopes))


@pytest.mark.parametrize("slope", [1.001, 5.0])
def test_a_prelu_refuses_slopes_above_one(slope):
    with pytest.raises(ValueError, match="slopes above 1"):
        graphs.prelu(inputs(), np.array([0.2, slope, -1, 0.5], np.float32))
    graphs.prelu(inputs(), np.array([0.2, 1.0, -1, 0.5], np.float32))


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_arithmetic_stays_in_the_type_of_its_input(dtype):
    kernel, bias = layer(3)
    x = tf.cast(inputs(), dtype)
    pooled, _ = graphs.conv_prelu_pool(x, kernel, bias, np.array([0.1, -0.1, 1.2], np.float32), 2, "SAME")

    assert graphs.constant(bias, dtype).dtype == dtype
    assert graphs.conv(x, kernel, bias).dtype == dtype
    assert graphs.dense(x[:, 0, 0], kernel[0, 0], bias).dtype == dtype
    assert graphs.prelu(x, np.full(4, 0.5, np.float32)).dtype == dtype
    assert pooled.dtype == dtype


# --- convolution, PReLU and pooling -----------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", SLOPES)
def test_pooling_before_the_prelu_changes_nothing(kind, size, padding):
    slopes = np.array(SLOPES[kind], np.float32)
    kernel, bias = layer(len(slopes))

    for height, width in ((17, 14), (8, 9)):
        x = inputs(height, width)
        bent = plain_prelu(tf.nn.conv2d(x, kernel, 1, "VALID") + bias, slopes)
        expected = tf.nn.max_pool2d(bent, size, 2, padding).numpy()
        found, order = graphs.conv_prelu_pool(x, kernel, bias, slopes, size, padding)
        assert sorted(order) == list(range(len(slopes)))
        assert found.shape == expected.shape
        assert np.abs(found - expected[..., order]).max() < 1e-4


def test_the_order_says_which_channel_is_which():
    # Each channel of this convolution gives its own number all over.
    slopes = np.array(SLOPES["mixed"], np.float32)
    bias = np.arange(1, len(slopes) + 1, dtype=np.float32)

    found, order = graphs.conv_prelu_pool(inputs(), np.zeros((3, 3, 4, len(slopes))), bias, slopes, 2, "SAME")
    assert (found.numpy() == bias[order]).all()
    assert order.tolist() != list(range(len(slopes)))


def test_a_graph_gives_what_single_steps_do():
    # TensorFlow rewrites graphs: fused, the convolution must stay the same.
    slopes = np.array(SLOPES["mixed"], np.float32)
    kernel, bias = layer(len(slopes))
    fused = tf.function(lambda x: graphs.conv_prelu_pool(x, kernel, bias, slopes, 3, "SAME")[0])

    assert np.abs(fused(inputs()) - graphs.conv_prelu_pool(inputs(), kernel, bias, slopes, 3, "SAME")[0]).max() < 1e-4
