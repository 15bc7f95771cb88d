"""Modified Kneser-Ney written down as its definition says, with dictionaries and recursion: slow, and obviously so."""

from __future__ import annotations

from collections import Counter, defaultdict

BEGIN = "begin"
Gram = tuple


class Oracle:
    """An interpolated model of n-grams up to `order` over `vocab_size` ids."""

    def __init__(self, documents: list[list[int]], order: int, vocab_size: int) -> None:
        self.order = order
        self.vocab_size = vocab_size
        raw: Counter[Gram] = Counter()
        for document in documents:
            tokens = [BEGIN, *document]
            for length in range(1, order + 1):
                raw.update(tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1))
        before: dict[Gram, set] = defaultdict(set)
        for gram in raw:
            before[gram[1:]].add(gram[0])
        self.counts: dict[Gram, int] = {}
        for gram, count in raw.items():
            if gram == (BEGIN,):
                continue
            longest = len(gram) == order or gram[0] == BEGIN
            self.counts[gram] = count if longest else len(before[gram])
        self.discounts = {length: self._discounts(length) for length in range(1, order + 1)}
        self.followers: dict[Gram, list[int]] = defaultdict(list)
        for gram, count in self.counts.items():
            self.followers[gram[:-1]].append(count)

    def _discounts(self, length: int) -> list[float]:
        of_count = Counter(count for gram, count in self.counts.items() if len(gram) == length)
        if not all(of_count[n] for n in (1, 2, 3, 4)):
            return [0.0, 0.5, 1.0, 1.5]
        y = of_count[1] / (of_count[1] + 2 * of_count[2])
        values = [n - (n + 1) * y * of_count[n + 1] / of_count[n] for n in (1, 2, 3)]
        return [0.0, *values] if all(0 < d <= n for n, d in zip((1, 2, 3), values)) else [0.0, 0.5, 1.0, 1.5]

    def probability(self, token: int, history: Gram) -> float:
        """Of `token` after `history`, of which the last order - 1 tokens count."""
        history = history[max(0, len(history) - self.order + 1) :]
        lower = self.probability(token, history[1:]) if history else 1 / self.vocab_size
        followers = self.followers.get(history)
        if not followers:
            return lower
        discounts = self.discounts[len(history) + 1]
        count, total = self.counts.get((*history, token), 0), sum(followers)
        taken = sum(discounts[min(follower, 3)] for follower in followers)
        return (count - discounts[min(count, 3)]) / total + taken / total * lower

    def probabilities(self, document: list[int]) -> list[float]:
        """Of each token of a document."""
        tokens = [BEGIN, *document]
        return [self.probability(tokens[i], tuple(tokens[:i])) for i in range(1, len(tokens))]
