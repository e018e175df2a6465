"""scikit-learn's API: `fit` and `predict` for lists of texts, of pairs, and of questions with their choices.

scikit-learn is imported with this package, and the package when one of its classes is first used.
"""

from gpt1.estimator.classifier import GPT1Classifier
from gpt1.estimator.regressor import GPT1Regressor

__all__ = ["GPT1Classifier", "GPT1Regressor"]
