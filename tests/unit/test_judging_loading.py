"""``[judging]`` of the policy file: defaults, what reaches the domain, the budget that comes of it, what is refused."""

from decimal import Decimal

import pytest

from shared.domain.features import Category
from shared.domain.judging import AUTO, JUDGE_SERVICE, JudgingRules, JudgingShare
from shared.domain.scopes import Subject
from shared.stores.registry_files import RegistryError
from tests.unit.test_policy_quality import read


def test_nothing_is_judged_and_no_budget_exists_unless_the_policy_says_so():
    for text in ("", "[judging]\n", "[[judging.shares]]\nshare = 0\n"):
        policy = read(text)
        assert policy.judging.share_of("any", "math") == 0.0
        assert policy.budgets == ()
    assert read("").judging == JudgingRules()


def test_every_field_reaches_the_domain_and_names_become_ids():
    policy = read("""
    [judging]
    daily_usd = "2.5"
    model = "gemini-3.8-flash"
    rubric = "5: good. 1: bad."
    [[judging.shares]]
    share = 0.5
    services = ["a"]
    categories = ["math"]
    [[judging.shares]]
    share = 0.25
    [[budgets]]
    name = "other"
    period = "day"
    hard_usd = "1"
    """)
    assert policy.judging == JudgingRules(
        shares=(JudgingShare(0.5, frozenset({"a"}), frozenset({Category.MATH})), JudgingShare(0.25)),
        daily_usd=Decimal("2.5"),
        model="gemini-3.8-flash",
        rubric="5: good. 1: bad.",
    )
    shares = [policy.judging.share_of(*asked) for asked in (("a", "math"), ("a", "code_review"), ("b", "math"))]
    assert shares == [0.5, 0.25, 0.25]
    assert policy.judging.rubric_id != JudgingRules().rubric_id


def test_the_budget_is_of_the_judge_in_each_tenant():
    own = read('[judging]\ndaily_usd = "0.75"\n[[judging.shares]]\nshare = 1.0\n').budgets[-1]
    assert own.hard_micro_usd == 750_000
    assert not own.open_when_away, "while money cannot be counted nothing is judged"
    assert own.scope.value_of(Subject("t", JUDGE_SERVICE)) == JUDGE_SERVICE
    assert own.scope.value_of(Subject("t", "shop")) is None


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[judging]\ndaily_usd = 1", "judging.daily_usd"),
        ('[judging]\ndaily_usd = "0"', "judging.daily_usd"),
        ('[judging]\ndaily_usd = "0.0000001"', "judging.daily_usd"),
        ('[judging]\nmodel = "nobody"', "judging.model: no model 'nobody'"),
        ('[judging]\nmodel = "auto:cost"', "judging.model"),
        ('[judging]\nrubric = ""', "judging.rubric"),
        ("[judging]\nshare = 1", "judging.share"),
        ("[[judging.shares]]\nshare = 1.5", "judging.shares[0].share"),
        ("[[judging.shares]]\nservices = []", "judging.shares[0].share"),
        ('[[judging.shares]]\nshare = 0.1\ncategories = ["poetry"]', "judging.shares[0].categories[0]"),
        ('[[budgets]]\nname = "router-judging"\nperiod = "day"\nhard_usd = "1"', "budgets[router-judging].name"),
    ],
)
def test_mistakes_are_refused_by_name(text, key):
    with pytest.raises(RegistryError) as refusal:
        read(text)
    assert key in str(refusal.value)


def test_the_word_for_the_engines_own_choice_is_taken():
    assert read(f'[judging]\nmodel = "{AUTO}"').judging.model == AUTO
