"""Why an input is called out-of-distribution."""

from gradood.attribution.region import Method, RegionMap, region_map

__all__ = ["Method", "RegionMap", "region_map"]
