"""Chinese texts of common words in sentences, copies of them with some words changed, and texts that hold another."""

from __future__ import annotations

import random

_WORDS = (
    "我们 你们 他们 大家 学生 老师 朋友 孩子 父亲 母亲 医生 工人 农民 作家 记者 今天 昨天 明天 早上 晚上 "
    "春天 夏天 秋天 冬天 学校 医院 工厂 农村 城市 北京 上海 公园 图书馆 火车 汽车 飞机 自行车 道路 桥梁 河流 "
    "山脉 森林 海洋 天空 太阳 月亮 星星 研究 学习 工作 生活 喜欢 讨论 发现 认识 解决 决定 开始 结束 继续 "
    "帮助 参加 准备 完成 经过 到达 离开 回来 打开 关闭 看见 问题 方法 结果 原因 历史 文化 经济 社会 政治 "
    "科学 技术 语言 文学 音乐 电影 新闻 报纸 故事 计划 机会 困难 经验 知识 能力 重要 简单 复杂 美丽 安静 "
    "热闹 新鲜 古老 普通 特别 非常 已经 正在 可能 应该 因为 所以 但是 如果 虽然 而且 或者 关于 对于 "
)
WORDS = _WORDS.split()


def sentence(chance: random.Random) -> list[str]:
    words = chance.choices(WORDS, k=chance.randint(9, 15))
    return [*words[:4], "的", *words[4:8], "了", *words[8:], chance.choice("。。。！？")]


def words_of(seed: int, sentences: int = 12) -> list[str]:
    """Words and signs; texts of different seeds have next to nothing in common."""
    chance = random.Random(seed)
    return [word for _ in range(sentences) for word in sentence(chance)]


def chinese(seed: int, sentences: int = 12) -> str:
    return "".join(words_of(seed, sentences))


def near_copy(seed: int, share: float = 0.02) -> str:
    """The text of a seed with a share of its words replaced, and without its exclamation and question marks."""
    chance, words = random.Random(~seed), words_of(seed)
    for place in chance.sample(range(len(words)), max(1, round(share * len(words)))):
        words[place] = chance.choice(WORDS)
    return "".join(words).replace("！", "。").replace("？", "。")


def holding(seed: int, inner: str) -> str:
    """A text with another one in the middle of a sentence."""
    text = chinese(seed)
    return f"{text[:101]}{inner.rstrip('。！？')}{text[101:]}"
