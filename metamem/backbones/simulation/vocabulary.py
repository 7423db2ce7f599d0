"""The English that the simulated backbone knows: empty words, irregular forms, and signs of what sentences tell.

Plain word lists and patterns, used by the modules that read; nothing in them comes from a data set.
"""

from __future__ import annotations

import re

NUMBER_WORDS = {
    word: str(value)
    for value, word in enumerate(
        """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
        seventeen eighteen nineteen twenty""".split()
    )
} | {
    word: f"{value}0"
    for value, word in enumerate("thirty forty fifty sixty seventy eighty ninety hundred".split(), start=3)
}
MONTHS = tuple("january february march april may june july august september october november december".split())
WEEKDAYS = tuple("monday tuesday wednesday thursday friday saturday sunday".split())

STOPWORDS = frozenset(
    """a about above after again ago all also always am an and any are aren as at be because been before being between
    both but by came can could did didn do does doesn doing don done down during each ever every far few for from
    further get gets getting give given go goes going gone got had has hasn have haven having he her here hers him his
    how i if in into is isn it its itself just know let like ll long m made make makes many may me mentioned might mine
    more most much must my myself need no nor not now of off on once one only or other our ours out over own please re
    really remember remind s said same shall she should since so some something still such t take than that the their
    theirs them then there these they this those through time to told too took under until up us use used ve very was
    wasn way we well went were what when where which while who whom whose why will with won would yes yet you your
    yours currently previous previously recently recent last first""".split()
)
IRREGULAR = dict(
    pair.split("/")
    for pair in """ate/eat began/begin begun/begin bike/bicycle bought/buy broke/break broken/break brought/bring
    built/build caught/catch child/kid children/kid chose/choose chosen/choose dad/father delivery/deliver drank/drink
    driven/drive drove/drive eaten/eat feet/foot fell/fall felt/feel flew/fly flown/fly forgot/forget found/find
    gave/give grew/grow grown/grow halves/half held/hold hid/hide hung/hang kept/keep knew/know knives/knife known/know
    laid/lay leaves/leaf led/lead left/leave lent/lend lives/life loaves/loaf lost/lose made/make men/man met/meet
    mice/mouse mom/mother movie/film movies/film paid/pay people/person photo/picture purchase/buy purchased/buy
    ran/run replacement/replace rode/ride rose/rise said/say sang/sing saw/see seen/see sent/send shelves/shelf
    shot/shoot slept/sleep sold/sell spent/spend spoke/speak stood/stand sung/sing swam/swim taken/take taught/teach
    teeth/tooth thought/think threw/throw told/tell took/take tv/television wives/wife woke/wake women/woman won/win
    wore/wear worn/wear written/write wrote/write""".split()
)
# Words that a question and a memory of the same thing often choose differently; that one is missing tells little.
GENERIC = (
    """accept acquire activity add age amount appointment arrive arrival ask assemble attend attendance bad become
    begin big bring build buy call cancel clean collect combine company compare complete completion cook cost count
    current date day deal decide decline deliver die differ difference do doctor donate download early eat end enjoy
    event exceed exclude expense expensive experience fall family fast favorite feel female find finish fix fly follow
    former full gather get give good graduate great grow hand happen have hear help high hobby hold home hour hurt
    include increase inherit initial issue item join keep kind know last launch lead learn leave less life like list
    listen live local long lose lot low main make mean meet member mention method minute mode money month more move name
    narrator near need new next night number occur offer official often old open order original own pair part
    participate participation pass past pay people percentage person piece place plan play possess present previous
    price prior process property purchase put reach read realize receipt receive recent record regular relate relocation
    remove repair replace replacement require return ride role run save see sell serve service set ship show sing size
    small spend stand start state stay stop store submit submission suggest surprise switch take talk teach tell thing
    think title tool total town trip try turn type typical unit update upgrade use useful usual value view visit wait
    wake walk want watch wear week weather weekend win work worn write year young""".split()
    + list(MONTHS)
)


def any_of(*patterns: str, flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[str]:
    """One pattern for whole words that any of `patterns` matches."""
    return re.compile(rf"\b(?:{'|'.join(patterns)})(?!\w)", flags)


# Signs that a sentence tells how things stand since they changed: of change itself, and weaker ones of the present.
CHANGE = any_of(
    r"these days|from (?:now|this \w+|next \w+)(?: on)?|no longer|any ?more|instead|rather than|used to",
    r"chang(?:e|ed|es|ing)|switched|moved|replaced|tak(?:es?|en) over|took over|from \w+ to|(?:up|down) (?:to|from)",
    r"brings? (?:me|us|it|the)|makes (?:it|that|them)|stands? at|stood at|(?:went|gone|goes) (?:up|down)",
    r"raised|lowered|increased|reduced|updated|upgraded|added|(?:rest|end) of the (?:year|season|month|summer|winter)",
)
PRESENT = any_of(
    r"now|nowadays|so far|as of|currently|latest|new|newly|just|already|again|since|lately|recently|finally|today"
)
# Signs that a clause is not about something that took place lately.
UNREAL = any_of(
    r"cancel\w*|called off|postponed|never|plan(?:s|ned|ning)?|(?:was|were|had) (?:going )?to|going to|will|won't|i'll",
    r"would have|hop(?:e|ing)|want(?:s|ed)? to|next|tomorrow|didn't|did not|couldn't|last year|years ago",
)
# Words of liking, wanting and avoiding.
PREFERENCE = any_of(
    r"lov(?:e|es|ed|ing)|lik(?:e|es|ed)|enjoy\w*|prefer\w*|favou?rites?|fond of|fan of|keen on|into|interested|dream",
    r"hat(?:e|es|ed)|dislik\w*|can't (?:stand|abide|bear|eat)|sick of|tired of|tires?|done with|allergic|avoid\w*",
    r"vegan|vegetarian|never|nothing|no more|want(?:s|ed)?|wish\w*|has to|have to|must|rather|only|need(?:s|ed)?",
    r"looking for|trying to|working on|hoping|planning",
)
FIRST_PERSON = re.compile(r"\b(?:I|I'm|I've|I'd|I'll|[Mm]y|me|[Ww]e|[Oo]ur)\b")

# The kinds of things that sentences hold and questions ask for.
NUMBER = any_of(r"\d[\d.,:]*", *(w for w in NUMBER_WORDS if w != "one"), "once", "twice", "a couple")
CLOCK = any_of(
    r"\d{1,2}:\d{2}", r"\d{1,2} ?[ap]\.?m\b\.?", r"\d{1,2} ?o'clock", "noon|midnight|half past|quarter (?:to|past)"
)
WEEKDAY = any_of(*(f"{day}s?" for day in WEEKDAYS))
MONEY = re.compile(r"[$€£]\s?\d|\b\d[\d.,]* (?:dollars|euros|pounds|bucks)\b", re.IGNORECASE)
NAME = re.compile(r"(?<=[a-z,:;] )[A-Z][\w'’]+")
NOT_A_NAME = re.compile(rf"(?:{'|'.join(WEEKDAYS)})s?|{'|'.join(MONTHS)}|i|i['’](?:m|ve|ll|d)", re.IGNORECASE)
