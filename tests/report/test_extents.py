import matplotlib
import pytest

from proxyless_jax.report.figure import make_figure
from proxyless_jax.report.shapes import RC
from proxyless_jax.space import mobile_space, tree_space
from proxyless_jax.space.zoo import list_networks, zoo
from tests.report.extents import check_texts


def small_tree(**settings):
  space = tree_space(**{"image_size": 16, "depths": (1, 1)} | settings)
  kinds = len(space.edges[0].ops)
  return space.choose([i % kinds for i in range(len(space.edges))])


NETWORKS = {
  "tiny": mobile_space(depths=(1,), widths=(8,), strides=(1,)).choose([0]),
  "rectangular": mobile_space(image_size=(64, 256)).choose([0] * 21),
  "long": mobile_space(depths=(10,) * 6).choose([1] * 60),
  "tree": small_tree(),
  "one tree": small_tree(halves=1, branches=1, levels=1),
  "deep trees": small_tree(levels=3),
  "four trees": small_tree(halves=4, levels=1, depths=(3, 3)),
  "wide blocks": small_tree(stem_width=1000, alpha=2000, depths=(1,) * 4),
  "narrow blocks": small_tree(halves=1, branches=1, depths=(9, 1, 1)),
  "space": mobile_space(),
  "space of trees": tree_space(image_size=16, depths=(1, 1)),
  "space of many trees": tree_space(),
}


@pytest.mark.parametrize("name", [*NETWORKS, *list_networks()])
def test_texts_of_networks(name):
  network = NETWORKS[name] if name in NETWORKS else zoo(name)
  with matplotlib.rc_context(RC):
    check_texts(make_figure(network))


def test_the_check_finds_an_overlap():
  with matplotlib.rc_context(RC):
    figure = make_figure(NETWORKS["tiny"])
    axes = figure.axes[0]
    axes.text(0.5, 0.05, "one")
    axes.text(0.6, 0.05, "another")
    with pytest.raises(AssertionError, match="'one' overlaps 'another'"):
      check_texts(figure)
