"""The digits that come with scikit-learn: nothing is downloaded and nothing is cached."""

import numpy as np

from memjax._checks import import_package
from memjax.datasets._source import Folder, Rows, Source

_NUM_TEST = 599


def _read_digits(split: str, data_dir: Folder, cache_dir: Folder) -> Rows:
    del data_dir, cache_dir
    digits = import_package("sklearn.datasets", "This dataset").load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    order = np.random.RandomState(0).permutation(len(images))
    chosen = order[:_NUM_TEST] if split == "test" else order[_NUM_TEST:]
    class_names = tuple(str(digit) for digit in digits.target_names)
    return Rows(images[chosen], digits.target[chosen].astype(np.int32), class_names)


SOURCES = {"digits": Source(_read_digits, num_validation=200)}
