//! The example's words: what its questions are made of, and so what its vocabulary holds.
//!
//! All of it is invented or plain English; nothing is taken from any data set. Knows no ids.

/// People that the questions ask about.
pub const PEOPLE: [&str; 24] = [
    "Mira", "Tomas", "Orla", "Bruno", "Selma", "Ivo", "Greta", "Pavel", "Nadia", "Oscar", "Lena",
    "Hugo", "Petra", "Emil", "Wanda", "Felix", "Tilda", "Anton", "Rosa", "Jonas", "Vera", "Karl",
    "Ines", "Milo",
];

/// Invented towns: with a person they make a subject.
pub const TOWNS: [&str; 24] = [
    "Tolven", "Bramley", "Ostrin", "Caldor", "Wexham", "Lindale", "Marrow", "Pellin", "Dunmere",
    "Halvik", "Sorrel", "Quillon", "Arden", "Fenwick", "Gorse", "Yarrow", "Ketter", "Norvale",
    "Umber", "Ravel", "Zellin", "Ivering", "Jasper", "Thorne",
];

/// One kind of fact: its question, in which `{}` is the subject, and the values it may have.
pub struct Fact {
    /// "What does {} eat?"
    pub question: &'static str,
    /// The values, each as likely as the others.
    pub values: [&'static str; 24],
}

/// The kinds of facts.
pub const FACTS: [Fact; 6] = [
    Fact {
        question: "What does {} like to eat?",
        values: [
            "bread", "cheese", "soup", "rice", "apples", "beans", "honey", "fish", "plums", "cake",
            "eggs", "nuts", "pears", "stew", "corn", "grapes", "butter", "cherries", "onions",
            "pasta", "figs", "oats", "salad", "pie",
        ],
    },
    Fact {
        question: "Which animal does {} keep?",
        values: [
            "goat", "horse", "owl", "fox", "cat", "dog", "rabbit", "duck", "turtle", "sheep",
            "pony", "crow", "mouse", "goose", "hen", "donkey", "otter", "parrot", "ferret", "bee",
            "pig", "cow", "snail", "frog",
        ],
    },
    Fact {
        question: "What colour is the door of {}?",
        values: [
            "red", "green", "blue", "yellow", "white", "black", "brown", "grey", "purple",
            "orange", "pink", "silver", "golden", "violet", "scarlet", "cream", "amber", "teal",
            "copper", "ivory", "navy", "olive", "lilac", "crimson",
        ],
    },
    Fact {
        question: "What is the daily work of {}?",
        values: [
            "baker", "miller", "teacher", "sailor", "farmer", "tailor", "painter", "doctor",
            "weaver", "mason", "printer", "singer", "hunter", "potter", "writer", "driver",
            "smith", "nurse", "judge", "clerk", "cook", "pilot", "guard", "barber",
        ],
    },
    Fact {
        question: "Which instrument does {} play?",
        values: [
            "violin", "flute", "drum", "harp", "piano", "trumpet", "guitar", "cello", "organ",
            "horn", "banjo", "oboe", "whistle", "lute", "fiddle", "bells", "tuba", "viola",
            "zither", "gong", "bugle", "lyre", "pipes", "cymbal",
        ],
    },
    Fact {
        question: "Where did {} hide the key?",
        values: [
            "garden", "cellar", "attic", "kitchen", "barn", "stable", "tower", "well", "bridge",
            "forest", "chapel", "market", "harbour", "library", "mill", "cave", "orchard",
            "meadow", "station", "school", "bakery", "museum", "tunnel", "castle",
        ],
    },
];

/// Words of the prompts and of plain English, so that a user's own text is not all single letters.
pub const COMMON: &str = "Question What Which Where When Who Why How The the a an and or of in on \
    at to from by with for is are was were be been do does did has have had can could will would \
    shall should may might must not no yes Yes No if then else so but as than that this these \
    those it its he she they we you I me him her them us my your our their there here now new old \
    answer is: question colour animal instrument door key daily work play keep hide like eat say \
    said see saw go went come came make made take took give gave find found know knew think \
    thought tell told ask asked use used one two three four five six seven eight nine ten first \
    last good bad big small long short high low hot cold day night week year time town house \
    street road river sea hill lake tree flower sun moon star rain snow wind fire water air earth \
    man woman child people friend name word book letter story song game thing place part end \
    hand head eye ear heart foot table chair bed room window wall floor lamp box bag cup plate \
    knife spoon left right up down out over under before after again always never often only \
    also very much many more most some any each every all both other same true false proposed \
    directly Is A B C D choose option that best answers about into user model \
    ship boat cart wheel rope stone gold iron paper ink cloth wool milk salt sugar spring summer \
    autumn winter morning evening north south east west king queen village country world";
