"""Packaging: the top-level folders install as celebface.<folder>, so that nothing generic lands in site-packages."""

from setuptools import setup

LAYERS = ("pipelines", "transforms", "models", "indexing")

setup(
    name="celebface",
    version="0.1.0",
    description="Which celebrity does each face look like? Face galleries and bulk matching on Apache Beam.",
    long_description=open("README.md", encoding="utf-8").read() if __import__("os").path.exists("README.md") else "",
    packages=[f"celebface.{layer}" for layer in LAYERS],
    package_dir={f"celebface.{layer}": layer for layer in LAYERS},
    python_requires=">=3.11",
    install_requires=[],
    entry_points={"console_scripts": ["celebface = celebface.pipelines.cli:main"]},
)
