"""The wheel's packages; everything else about the project stands in pyproject.toml.

`data_tools/` and `configs/` are read by people in a clone under these names, and would be too
general as names of installed packages.
"""

from setuptools import find_packages, setup

RENAMED = {"critic_data": "data_tools", "critic_configs": "configs"}

packages = find_packages(include=["critic_jax", "critic_jax.*"])
for name, folder in RENAMED.items():
    packages += [name, *(f"{name}.{inner}" for inner in find_packages(folder))]

setup(packages=packages, package_dir=RENAMED)
