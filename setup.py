"""Packaging: the top-level folders install as celebface.<folder>, so that nothing generic lands in site-packages."""

import pathlib

from setuptools import setup

PACKAGES = ("pipelines", "transforms", "transforms.web", "models", "indexing")

setup(
    name="celebface",
    version="0.1.0",
    description="Which celebrity does each face look like? Face galleries and bulk matching on Apache Beam.",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[f"celebface.{name}" for name in PACKAGES],
    package_dir={f"celebface.{name}": name.replace(".", "/") for name in PACKAGES},
    package_data={
        **{f"celebface.{name}": ["py.typed"] for name in PACKAGES if "." not in name},
        "celebface.pipelines": ["templates/*", "py.typed"],
    },
    python_requires=">=3.11",
    install_requires=[
        "annoy>=1.17.3,<1.18",
        "apache-beam>=2.77,<3",
        "h5py>=3.11,<4",
        "jinja2>=3.1.6,<4",
        "joblib>=1.4.2,<2",
        "keras>=3.10,<4",
        "lxml>=6,<7",
        "matplotlib>=3.10,<4",
        "mtcnn>=1.0,<1.1",
        "numpy>=2.0,<3",
        "pillow>=12.1.1,<13",
        "pillow-heif>=1.1,<2",
        "protego>=0.4,<1",
        "pyarrow>=18,<26",
        "requests>=2.32.2,<3",
        "rich>=13,<16",
        "tenacity>=9,<10",
        "tensorflow>=2.20,<3",
        "urllib3>=2.8,<3",
    ],
    extras_require={
        "gcp": ["apache-beam[gcp]", "google-cloud-storage>=3,<4"],
        "aws": ["apache-beam[aws]", "boto3>=1.36,<2"],
        "hnsw": ["usearch>=2.17,<3"],
        "dev": [
            "axe-core-python>=0.1,<0.2",
            "boto3",
            "build",
            "cryptography",
            "gcp-storage-emulator",
            "google-cloud-storage>=3,<4",
            "moto[server]",
            "mypy",
            "pip-tools",
            "pytest",
            "pytest-timeout",
            "pytest-xdist>=3.6,<4",
            "ruff",
            "selenium>=4.30,<5",
            "types-requests",
            "usearch>=2.17,<3",
        ],
    },
    entry_points={
        "console_scripts": [
            "celebface = celebface.pipelines.cli:main",
            "celebface-worker = celebface.pipelines.engine_worker:main",
        ]
    },
)
