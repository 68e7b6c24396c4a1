import proxyless_jax as pj
from proxyless_jax.report.blocks import stage_lines


def test_a_line_for_each_stage():
  space = pj.mobile_space(
    image_size=28,
    channels=1,
    classes=10,
    widths=(16, 40),
    depths=(1, 3),
    strides=(1, 2),
  )
  network = space.choose(["mbconv3_k3", "mbconv6_k5", "zero", "mbconv3_k7"])
  assert stage_lines(network) == [
    ("14×14×16", "MB3 3×3"),
    ("7×7×40", "MB6 5×5, skip, MB3 7×7"),
  ]


def test_of_many_blocks_each_kind_is_counted():
  space = pj.mobile_space(
    image_size=28, classes=10, widths=(16,), depths=(14,), strides=(1,)
  )
  network = space.choose(["mbconv3_k3"] * 9 + ["zero"] * 5)
  assert stage_lines(network) == [("14×14×16", "9 MB3 3×3, 5 skip")]


def test_a_network_that_widens_in_each_block():
  space = pj.tree_space(image_size=32, classes=10)
  lines = stage_lines(space.choose([0] * len(space.edges)))
  assert [shape for shape, _ in lines] == ["32×32", "16×16", "8×8"]
  assert sum(int(blocks.split()[0]) for _, blocks in lines) == len(space.edges)
