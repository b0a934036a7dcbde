"""The library of templates: the critic's own questions and those of the benchmarks.

The wording is our own. The section markers and the verdict markers are those of the benchmarks and
of LLaVA-Critic's training data, because a critic has learned to answer to them.

To add a template, add a row to `TABLE`.
"""

from __future__ import annotations

from critic_jax.judging.formats import (
    BRACKET_CRITERIA,
    BRACKET_REFERENCE,
    BetterFormat,
    LabelFormat,
    RankFormat,
    ScoreFormat,
    Template,
    TwoScoreFormat,
)

_LINE_CRITERIA = "Criteria: [{}]\n"
_LINE_REFERENCE = "Reference answer: [{}]\n"

_CRITIC_POINTWISE = """\
You see a picture and a question about it, and you are an unbiased and fair judge of the answer \
that a Large Multimodal Model (LMM) gave. Score the response out of 100 and explain the score \
with specific details. Close with the line Score: N. The case to judge:
{criteria}Question: [{question}]
{reference}The LMM response: [{response}]
ASSISTANT:"""

_CRITIC_PAIRWISE = """\
You see a picture and a question about it, and you are an unbiased and fair judge of two answers \
that Large Multimodal Models (LMMs) gave. Determine which answer is better and explain why with \
specific details. Close with the line The better response: [first] or The better response: \
[second], or say that both are equally good. The case to judge:
{criteria}Question: [{question}]
{reference}The first response: [{response_a}]
The second response: [{response_b}]
ASSISTANT:"""

_LLAVA_BENCH = """\
[Question]
{question}

{reference}[Assistant 1]
{response_a}
[End of Assistant 1]

[Assistant 2]
{response_b}
[End of Assistant 2]

{criteria}[System]
Two AI assistants answered the question above about the picture that you see. Rate how helpful, \
relevant, accurate and detailed each answer is, with one overall score from 1 to 10 for each; \
higher is better.
Write on the first line nothing but the two scores, of Assistant 1 and of Assistant 2, with a \
space in between. Explain your evaluation from the second line on, without bias and without \
regard to the order of the answers."""

_WILDVISION = """\
[System]
As an impartial judge, compare the answers of two AI assistants to the user prompt below about \
the picture that you see. Solve the prompt yourself first, then compare both answers with your \
own: are they correct, helpful, relevant and concise, and what do they leave out? The order of \
the answers must not matter.
After your explanation give exactly one of these verdicts, on a line of its own:
1. Assistant A is significantly better: [[A>>B]]
2. Assistant A is slightly better: [[A>B]]
3. Both are about as good: [[A=B]]
4. Assistant B is slightly better: [[B>A]]
5. Assistant B is significantly better: [[B>>A]]

{criteria}<|User Prompt|>
{question}

{reference}<|The Start of Assistant A's Answer|>
{response_a}
<|The End of Assistant A's Answer|>

<|The Start of Assistant B's Answer|>
{response_b}
<|The End of Assistant B's Answer|>"""

_CAPTION = """\
Judge how well a text caption describes the picture that you see: is what it says there to be \
seen, does it miss anything important, does it invent anything?
From 0 to 100, how do you rate the caption? Explain first, then close with the line Final Score: \
N.
{criteria}Instruction: {question}
{reference}Text Caption: {response}
[End of Caption]"""

_MT_BENCH = """\
[System]
As an impartial judge, compare the answers of two AI assistants to the user question below about \
the picture that you see. Weigh helpfulness, relevance, accuracy, depth and detail. Neither the \
order nor the length of the answers nor the names of the assistants may sway you. Explain first, \
then close with your verdict in this exact form: [[A]] if assistant A is better, [[B]] if \
assistant B is better, [[C]] for a tie.

{criteria}[User Question]
{question}

{reference}[The Start of Assistant A's Answer]
{response_a}
[The End of Assistant A's Answer]

[The Start of Assistant B's Answer]
{response_b}
[The End of Assistant B's Answer]"""

_MMHAL = """\
Judge how informative a response about the picture that you see is, and whether it hallucinates: \
whether it says anything that neither the picture nor the reference supports. Explain first, \
then close with the line Rating: N, where N is a whole number from 0 to 6:
6 is very informative with good analysis, no hallucination
5 is very informative, no hallucination
4 is somewhat informative, no hallucination
3 is not informative, no hallucination
2 is very informative, with hallucination
1 is somewhat informative, with hallucination
0 is not informative, with hallucination

{criteria}### Question
{question}

{reference}### LMM Response to Evaluate
{response}

### Evaluation"""

_MMVET = """\
Compare the prediction with the ground truth, where there is one, and with the picture that you \
see, and say how correct the prediction is: from 0.0 (all wrong) to 1.0 (all right), in steps of \
0.1. Parts of the ground truth joined by <AND> must all be met, of parts joined by <OR> one is \
enough. Close with the line Score: N.
{criteria}Question: {question}
{reference}Prediction: {response}
[End of Prediction]"""

_AUTO_J = """\
Write a critique of a submitted response to a user's query about the picture that you see, then \
grade the response overall on a scale of 1 to 10. Close with the grade in this exact form: \
Rating: [[N]].

[BEGIN DATA]
***
{criteria}[Query]: {question}
***
{reference}[Response]: {response}
***
[END DATA]"""

_PROMETHEUS = """\
###Task Description:
You see a picture and are given an instruction, a response to evaluate and a score rubric.
1. Write detailed feedback that judges the response by the rubric alone, not in general.
2. After the feedback write a score that is a whole number from 1 to 5, as the rubric says.
3. The output looks like this: "Feedback: (your feedback) [RESULT] (a whole number from 1 to 5)"

###The instruction to evaluate:
{question}

###Response to evaluate:
{response}

{reference}{criteria}###Feedback:"""

_LLAVA_WILDER = """\
[Question]
{question}

{reference}[Assistant 1]
{response_a}
[End of Assistant 1]

[Assistant 2]
{response_b}
[End of Assistant 2]

{criteria}[System]
Two AI assistants answered the question above about the picture that you see. The answer of \
Assistant 1 is known to be correct: its score is always 10. Rate how helpful, relevant, accurate \
and detailed the answer of Assistant 2 is beside it, from 1 to 10; higher is better.
Write on the first line nothing but the two scores, of Assistant 1 and of Assistant 2, with a \
space in between. Explain your evaluation from the second line on, without bias and without \
regard to the order of the answers."""

_REFOMB = """\
As an impartial judge, compare how two multimodal models answered a user's question about the \
picture that you see. Two things count: trustworthiness, which is how few hallucinations an \
answer holds, that is, statements about what is to be seen, how the picture was made or what it \
conveys that the picture or its description contradicts or does not support; and helpfulness, \
which is how well the answer serves the user with accurate, relevant and plain information. A \
description, where one is given, covers the whole picture. A question that asks for invention may \
be answered freely.
Look for every hallucination of either model first, compare their helpfulness then, and close \
with your conclusion from both in this exact form: [[A]] if Model A is better, [[B]] if Model B is \
better, [[C]] if both are equally good.

{criteria}{reference}[Beginning of the user's question]
{question}
[End of the user's question]

[Beginning of Model A's answer]
{response_a}
[End of Model A's answer]

[Beginning of Model B's answer]
{response_b}
[End of Model B's answer]"""

_MLLM_JUDGE = """\
As an unbiased judge, assess how well AI assistants followed a user's instruction about the \
picture that you see. Weigh relevance, accuracy, comprehensiveness, creativity and granularity. \
Neither the length of an answer nor the names or the order of the assistants may sway you. Answer \
as a JSON object with two fields, both plain texts: "Analysis" is what you find in the answers, \
"Judgement" is your judgement alone.
"""

_MLLM_JUDGE_SCORE = (
    _MLLM_JUDGE
    + """\
Judge the one answer below: the field Judgement is [[1]] for poor, [[2]] for fair, [[3]] for \
average, [[4]] for good or [[5]] for excellent.

{criteria}[The Start of User Instruction]
{question}
[The End of User Instruction]

{reference}[The Start of Assistant's Answer]
{response}
[The End of Assistant's Answer]"""
)

_MLLM_JUDGE_PAIR = (
    _MLLM_JUDGE
    + """\
Compare the two answers below: the field Judgement is [[A]] if assistant A does better, [[B]] if \
assistant B does better, [[C]] for a tie.

{criteria}[The Start of User Instruction]
{question}
[The End of User Instruction]

{reference}[The Start of Assistant A's Answer]
{response_a}
[The End of Assistant A's Answer]

[The Start of Assistant B's Answer]
{response_b}
[The End of Assistant B's Answer]"""
)

_MLLM_JUDGE_BATCH = (
    _MLLM_JUDGE
    + """\
Rank all the answers below from best to worst: the field Judgement names every assistant once, the \
best first, in double brackets with commas between.

{criteria}[The Start of User Instruction]
{question}
[The End of User Instruction]

{reference}{responses}

[The End of All Answers]"""
)

_VL_REWARDBENCH = """\
You see a picture, a question about it and two answers. Find out which answer is better. Judge \
both by their accuracy (does it agree with what the picture shows?), completeness (does it cover \
every part of the question?), clarity (is it easy to follow?) and relevance (is all of it about \
the question and the picture?), and explain what you find for each of these.
Close with the line Overall Judgment: Answer X is better. X is 1 or 2.

{criteria}[Question]
{question}

{reference}[Answer 1]
{response_a}
[End of Answer 1]

[Answer 2]
{response_b}
[End of Answer 2]"""

_MM_REWARDBENCH = """\
[System]
As an impartial judge, compare the answers of two AI assistants to the user question below about \
the picture that you see, and choose the one that follows the instructions and answers the \
question better. Weigh helpfulness, relevance, accuracy, depth and detail. Neither the order nor \
the length of the answers nor the names of the assistants may sway you. There is no tie. Explain \
first, then close with your verdict in this exact form: [[A]] if assistant A is better, [[B]] if \
assistant B is better.

{criteria}[User Question]
{question}

{reference}[The Start of Assistant A's Answer]
{response_a}
[The End of Assistant A's Answer]

[The Start of Assistant B's Answer]
{response_b}
[The End of Assistant B's Answer]"""

_LIVEBENCH = """\
[Question]
{question}

[Assistant Response]
{response}

{reference}[System]
You see the picture that the question is about. Rate how far the assistant's response agrees with \
the ground truth, from 0 for one that is wrong to 10 for one that is right.

{criteria}Answer with a JSON object of two fields: "Explanation" gives your reasons, "Rating" is \
your rating alone, a whole number."""

_VIDEO_DC = """\
Judge how detailed an answer about a video is. Hold the predicted answer against the correct one: \
does it cover all that matters in the video, and is it specific where it could have stayed \
general? The same said in other words counts as the same.

Question: {question}
{reference}Predicted Answer: {response}
[End of Predicted Answer]

{criteria}Answer with nothing but a Python dictionary of one key, 'score': the level of detail as \
a whole number from 0 to 5, where 5 is the most detailed."""

TABLE: tuple[Template, ...] = (
    Template(
        "critic-pointwise",
        "pointwise",
        ScoreFormat("score", 0, 100, bare=True),
        _CRITIC_POINTWISE,
        _LINE_CRITERIA,
        _LINE_REFERENCE,
    ),
    Template(
        "critic-pairwise",
        "pairwise",
        BetterFormat(),
        _CRITIC_PAIRWISE,
        _LINE_CRITERIA,
        _LINE_REFERENCE,
    ),
    Template(
        "llava-bench",
        "pairwise",
        TwoScoreFormat(1, 10),
        _LLAVA_BENCH,
        BRACKET_CRITERIA,
        BRACKET_REFERENCE,
    ),
    Template(
        "wildvision",
        "pairwise",
        LabelFormat({label: label for label in ("A>>B", "A>B", "A=B", "B>A", "B>>A")}),
        _WILDVISION,
        "<|Criteria|>\n{}\n\n",
        "<|The Start of Reference Answer|>\n{}\n<|The End of Reference Answer|>\n\n",
    ),
    Template(
        "caption",
        "pointwise",
        ScoreFormat("final-score", 0, 100),
        _CAPTION,
        "Criteria: {}\n",
        "Reference Caption: {}\n",
    ),
    Template(
        "mt-bench",
        "pairwise",
        LabelFormat({"A": "A", "B": "B", "C": "tie"}),
        _MT_BENCH,
        BRACKET_CRITERIA,
        BRACKET_REFERENCE,
    ),
    Template(
        "mmhal",
        "pointwise",
        ScoreFormat("rating", 0, 6, whole=True),
        _MMHAL,
        "### Criteria\n{}\n\n",
        "### Standard Human-Generated Answer\n{}\n\n",
    ),
    Template(
        "mmvet",
        "pointwise",
        ScoreFormat("score", 0, 1, bare=True),
        _MMVET,
        "Criteria: {}\n",
        "Ground truth: {}\n",
    ),
    Template(
        "auto-j",
        "pointwise",
        ScoreFormat("rating-brackets", 1, 10),
        _AUTO_J,
        "[Criteria]: {}\n***\n",
        "[Reference]: {}\n***\n",
    ),
    Template(
        "prometheus",
        "pointwise",
        ScoreFormat("result", 1, 5, whole=True),
        _PROMETHEUS,
        "###Score Rubrics:\n{}\n\n",
        "###Reference Answer (Score 5):\n{}\n\n",
        default_criteria="Is the response correct, helpful and true to the picture? "
        "1 is not at all, 3 is in part, 5 is fully.",
    ),
    Template(
        "llava-wilder",
        "pairwise",
        TwoScoreFormat(1, 10),
        _LLAVA_WILDER,
        BRACKET_CRITERIA,
        BRACKET_REFERENCE,
    ),
    Template(
        "refomb",
        "pairwise",
        LabelFormat({"A": "A", "B": "B", "C": "tie"}),
        _REFOMB,
        BRACKET_CRITERIA,
        "[Beginning of the detailed description of the picture]\n{}\n"
        "[End of the detailed description of the picture]\n\n",
    ),
    Template(
        "mllm-judge-score",
        "pointwise",
        ScoreFormat("judgement", 1, 5, whole=True),
        _MLLM_JUDGE_SCORE,
        BRACKET_CRITERIA,
        BRACKET_REFERENCE,
    ),
    Template(
        "mllm-judge-pair",
        "pairwise",
        LabelFormat({"A": "A", "B": "B", "C": "tie"}, judgement=True),
        _MLLM_JUDGE_PAIR,
        BRACKET_CRITERIA,
        BRACKET_REFERENCE,
    ),
    Template(
        "mllm-judge-batch",
        "batch",
        RankFormat(),
        _MLLM_JUDGE_BATCH,
        BRACKET_CRITERIA,
        BRACKET_REFERENCE,
    ),
    Template(
        "vl-rewardbench",
        "pairwise",
        BetterFormat(overall=True),
        _VL_REWARDBENCH,
        BRACKET_CRITERIA,
        BRACKET_REFERENCE,
    ),
    Template(
        "mm-rewardbench",
        "pairwise",
        LabelFormat({"A": "A", "B": "B"}),
        _MM_REWARDBENCH,
        BRACKET_CRITERIA,
        BRACKET_REFERENCE,
    ),
    Template(
        "livebench",
        "pointwise",
        ScoreFormat("rating-field", 0, 10, whole=True),
        _LIVEBENCH,
        "The criteria to rate by:\n{}\n\n",
        "[Ground Truth Response]\n{}\n\n",
    ),
    Template(
        "video-dc",
        "pointwise",
        ScoreFormat("score-field", 0, 5, whole=True),
        _VIDEO_DC,
        "Criteria: {}\n",
        "Correct Answer: {}\n",
    ),
)
