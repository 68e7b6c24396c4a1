"""Parameters and MACs of the zoo: python -m experiments.zoo."""

import proxyless_jax as pj
from proxyless_jax.space.zoo import NETWORKS


def main():
  """Prints a Markdown table."""
  print("| name | images | classes | parameters | MACs |")
  print("|---|---|---|---|---|")
  for name in sorted(NETWORKS):
    network = pj.zoo(name)
    height, width, _ = network.image_shape
    print(
      f"| `{name}` | {height}x{width} | {network.classes} "
      f"| {pj.parameters(network):,} | {pj.macs(network):,} |"
    )


if __name__ == "__main__":
  main()
