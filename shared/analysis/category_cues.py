"""Words and phrases that speak for a category, by strength. Data only; `shared.analysis.categories` weighs them.

Phrases are separated by commas, in lower case, at most five words. English is covered best; German, French, Spanish and
Italian have the commonest instructions, Chinese, Japanese and Korean a few marks.
"""

import re
from collections.abc import Mapping
from typing import Final

from shared.domain.features import Category

STRONG, FAIR, WEAK = 3.0, 1.8, 0.8

CUES: Final[Mapping[Category, Mapping[float, str]]] = {
    Category.SUMMARIZATION: {
        STRONG: """
            summarize, summarise, summarizing, tl;dr, tldr, tl dr, key takeaways, main points, key points,
            executive summary, zusammenfassen, fasse, fassen sie, zusammenfassung, résume, résumer, résumez,
            resumir, resumen, riassumi
        """,
        FAIR: """
            summary, condense, shorten, recap, abstract of, gist, boil down, in a nutshell, digest, shorter,
            bullets, bullet points, sum up, boil this down, overview of, condensed, make this short, brief
            overview
        """,
    },
    Category.TRANSLATION: {
        STRONG: """
            translate, translation, translating, übersetze, übersetzen, übersetzung, traduis, traduire,
            traduisez, traduce, traducir, traduci, into english, into german, into french, into spanish, into
            japanese, into chinese, in german, in french, in spanish, in italian, in japanese, in chinese, to
            english, to german, to french, to spanish, to japanese, to chinese, auf deutsch, auf englisch, ins
            deutsche, ins englische, en français, into italian, into portuguese, into dutch, into korean, into
            russian, into polish, into arabic, to italian, to portuguese, to korean, to russian, german version,
            french version, spanish version, english version, italian version, japanese version
        """,
        FAIR: """
            localize, localise, how do you say, mother tongue
        """,
    },
    Category.CLASSIFICATION: {
        STRONG: """
            classify, classification, categorize, categorise, sentiment, label the, assign a label, assign one,
            which category, spam or, positive or negative, positive negative, klassifiziere, classifie,
            clasifica, triage, multi-label
        """,
        FAIR: """
            label, labels, category, categories, tag this, tag the, true or false, rate the, is this spam,
            intent of, urgency, which ones are, does this express, emotion, complaint, complaints, relevant or
            not, yes or no, sort these, sort the following, detect whether, decide if
        """,
    },
    Category.EXTRACTION: {
        STRONG: """
            extract, extraction, extrahiere, extraire, extrais, extrae, extraer, pull out, named entities, parse
            the, parse this, list all the, find all, fill in the fields, return the fields, key-value
        """,
        FAIR: """
            identify all, entities, invoice number, fields, as json, to json, structured data, convert this
            table, columns, get the, out of this, return a json, return json, as a json, from the text, from
            this text, list the, names of all, pick out
        """,
    },
    Category.CODE_REVIEW: {
        STRONG: """
            code review, review this code, review the code, review this function, review my, review this pull,
            pull request, refactor, debug, debugging, find the bug, fix the bug, fix this, fix my, what's wrong,
            what is wrong, security issues, vulnerabilities in, stack trace, traceback, race condition, memory
            leak, doesn't compile, not working, throws, why does this code, explain this code, improve this code
        """,
        FAIR: """
            bug, bugs, review, vulnerability, vulnerable, segfault, exception, error message, lint, optimize
            this, code smell, did i do wrong, unsafe, never terminates, crashes, crash, fails with, why isn't,
            why does my, doesn't work, what's the problem, null pointer, deadlock, leaks
        """,
    },
    Category.CODE_GENERATION: {
        STRONG: """
            write a function, write a script, write a program, write a class, write code, write python, write a
            python, write a sql, write a query, write an sql, write a regex, write a unit test, write unit
            tests, write tests, implement a, implement an, implement the, implement in, create a function,
            create a script, build a rest, generate code, code that, a function that, a script that, a program
            that, a query that, unit tests for, dockerfile, regular expression, schreibe eine funktion, écris
            une fonction, escribe una función, code up, in python, in javascript, in typescript, in java, in
            rust, in golang, in c, linked list, binary tree, hash map, unit test
        """,
        FAIR: """
            implement, function, python, javascript, typescript, java, rust, golang, sql, bash, react, html,
            css, api, endpoint, algorithm, script, kubernetes, terraform, yaml, component, class, method,
            program, code, regex, pytest, flask, django, fastapi, node, docker, cli, webhook, snippet, library,
            package, server
        """,
    },
    Category.MATH: {
        STRONG: """
            solve for, solve the, equation, integral, integrate, derivative, differentiate, prove that, theorem,
            eigenvalue, eigenvalues, probability that, how many ways, least common, greatest common, modulo,
            polynomial, matrix, triangle, square root, quadratic, arithmetic, berechne, calcule, calcula,
            hypotenuse, permutations
        """,
        FAIR: """
            calculate, compute, solve, sum of, product of, percent, percentage, average of, mean of, standard
            deviation, probability, how many, how much, remainder, divided by, multiplied, times, geometry,
            algebra, calculus, per hour, km h, mph, speed, at a rate, how fast, interest rate, dice, coin,
            ratio, fraction, digits, integer, integers, angle, radius
        """,
    },
    Category.REASONING: {
        STRONG: """
            step by step, logic puzzle, riddle, think carefully, reason through, deduce, pros and cons,
            trade-offs, tradeoffs, root cause, root-cause, what would happen, counterfactual, weigh the, decide
            whether, strategy for, which is better, should we, argue for, fallacy, logical, knights and knaves,
            must be true
        """,
        FAIR: """
            analyze, analyse, evaluate, compare, reasoning, justify, plan for, implications, infer, why might,
            hypothesis, assess, recommend, critique, premise, conclusion, argument, difference between, what
            could explain, why would, are all, if all, therefore, who is lying, best approach, how would you,
            what would you, explain why, likely cause, scenario
        """,
    },
    Category.CREATIVE_WRITING: {
        STRONG: """
            write a poem, write a story, write a song, short story, haiku, limerick, sonnet, screenplay, lyrics,
            fairy tale, slogan, tagline, blog post, write a blog, marketing copy, fan fiction, a poem about, a
            story about, ein gedicht, un poème, un poema, eine geschichte, opening line, write a speech, product
            description, cover letter
        """,
        FAIR: """
            poem, story, song, creative, character, rhyme, rewrite, rephrase, tone, brainstorm, write an email,
            draft an email, write a letter, essay, article, draft, newsletter, dialogue, names for, post about,
            caption, compose, verse, names, imagine, fictional, greeting, toast, invitation, linkedin post,
            tweet about, headline
        """,
    },
    Category.GROUNDED_ANSWER: {
        STRONG: """
            based on the, based only on, using only the, using the following, according to the, given the
            following, context below, the context, the passage, the document, provided context, cite your
            sources, cite the, from the documents, the excerpt, the following passage, with citations, answer
            from the, answer only from, only from the, only from them, per the, using the documents, using these
            documents, in the text above, in the text below
        """,
        FAIR: """
            passage, documents, sources, excerpt, knowledge base, handbook, policy says, as stated, citations,
            retrieved
        """,
    },
    Category.QUESTION_ANSWERING: {
        FAIR: """
            what is, what are, who is, who was, who wrote, when did, when was, where is, where was, which
            country, how does, how do, how can, why is, why do, why does, explain, define, definition of, what
            does, capital of, tell me about, meaning of, was ist, wer ist, wann war, wie funktioniert,
            qu'est-ce, qui est, pourquoi, qué es, quién, cuál, erkläre, answer the, is it, can i, do i need,
            does the, what happens, how long, how far, how old, which of the following
        """,
        WEAK: """
            what, who, when, where, why, which, how, was, wer, wann, wo, warum, wie, quoi, quand, comment
        """,
    },
    Category.CONVERSATION: {
        STRONG: """
            hello, hi there, hey, hi, good morning, good evening, how are you, thanks, thank you, nice to meet,
            what's up, bye, goodbye, hallo, guten tag, bonjour, salut, hola, buenos días, ciao, danke, merci,
            gracias, let's chat, sounds good, yo, sup, good night, nice to see you, see you, you're welcome,
            how's it going
        """,
        FAIR: """
            i feel, i'm feeling, my day, lonely, bored, talk to me, your opinion, do you like, tell me a joke,
            cheer me, rough day, long day, lol, haha, okay, cool, great, nice, sorry, miss you, feeling down
        """,
    },
    Category.AGENTIC: {
        STRONG: """
            use the tools, using the tools, call the tool, browse the, search the web, book a, open a ticket,
            autonomously, take the following actions, multi-step, execute the plan, use your tools, then email,
            and then send
        """,
        FAIR: """
            agent, schedule a, send an, create a ticket, look up, workflow, automate, run the, orders for, check
            the status, monitor, forward, then update, then send, update the ticket, remind me, notify, cancel
            my, reschedule, book, place an order, log in
        """,
    },
}

CJK_CUES: Final = (
    (Category.SUMMARIZATION, re.compile("总结|總結|摘要|要約|要约|概括|요약")),
    (Category.TRANSLATION, re.compile("翻译|翻譯|翻訳|译成|번역")),
    (Category.CODE_GENERATION, re.compile("代码|代碼|函数|コード|関数|プログラム|코드|함수")),
    (Category.CLASSIFICATION, re.compile("分类|分類|분류")),
    (Category.EXTRACTION, re.compile("提取|抽出|추출")),
    (Category.QUESTION_ANSWERING, re.compile("什么|什麼|为什么|谁|何ですか|なぜ|무엇|왜")),
    (Category.CREATIVE_WRITING, re.compile("写一首|故事|詩|诗|物語|이야기")),
    (Category.CONVERSATION, re.compile("你好|こんにちは|안녕")),
    (Category.MATH, re.compile("计算|方程|計算|계산")),
)
"""Without spaces there are no words to look up: these are searched for."""
