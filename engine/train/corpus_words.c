/* engine/train/corpus_words.c - the words that fill slots: names, nouns, places, colours, days.
 * lint: table. Rules for new rows: no name ends in s (the possessive would need another rule); a
 * noun is countable and its plural is not irregular enough to need a determiner; nothing sad, no
 * brand. The vocabulary is small on purpose: a tokenizer of 1,024 to 2,048 pieces has to hold it.
 */
#include "engine/train/corpus_internal.h"

#include <assert.h>

static const char *const she[] = {
    "Aisha", "Alma",   "Amara", "Amina",  "Ana",   "Anya",       "Asha",   "Astrid", "Ayla",
    "Bea",   "Bianca", "Carla", "Carmen", "Chloe", "Clara",      "Dalia",  "Daria",  "Devi",
    "Dina",  "Elena",  "Elif",  "Ella",   "Emma",  "Esther",     "Eva",    "Farah",  "Fatima",
    "Freya", "Gita",   "Greta", "Hana",   "Heidi", "Ida",        "Indira", "Ingrid", "Isla",
    "Jana",  "Julia",  "Kaya",  "Kiara",  "Kim",   "Laila",      "Lan",    "Leila",  "Lena",
    "Lila",  "Lin",    "Lucia", "Luna",   "Mai",   "Malia",      "Mara",   "Maria",  "Maya",
    "Mei",   "Mia",    "Mina",  "Mira",   "Nadia", "Naomi",      "Nia",    "Nina",   "Nora",
    "Olga",  "Paula",  "Petra", "Priya",  "Rania", "Rosa",       "Ruth",   "Salma",  "Sana",
    "Sara",  "Selma",  "Sofia", "Suki",   "Talia", "Tara",       "Thandi", "Uma",    "Vera",
    "Wanda", "Yara",   "Yuki",  "Zahra",  "Zara",  "Zo\xC3\xAB", "Zuri",
};

static const char *const he[] = {
    "Abdul", "Adam",        "Ahmed", "Ali",   "Amir",   "Anton",  "Arjun",        "Arun",
    "Ben",   "Bilal",       "Bruno", "Carlo", "Chen",   "Chidi",  "Dani",         "David",
    "Diego", "Dmitri",      "Eli",   "Emil",  "Enzo",   "Erik",   "Ethan",        "Felipe",
    "Finn",  "Gabriel",     "Goran", "Hamza", "Hassan", "Hiro",   "Hugo",         "Ibrahim",
    "Imran", "Ivan",        "Jack",  "Jamal", "Jan",    "Javier", "Jin",          "Joel",
    "John",  "Jos\xC3\xA9", "Juan",  "Kai",   "Karim",  "Kenji",  "Kofi",         "Kwame",
    "Lee",   "Leo",         "Liam",  "Luca",  "Malik",  "Marco",  "Mateo",        "Max",
    "Milan", "Minh",        "Musa",  "Nabil", "Nikhil", "Noah",   "Omar",         "Oscar",
    "Otto",  "Pablo",       "Paolo", "Pavel", "Pedro",  "Peter",  "Rafael",       "Raj",
    "Ravi",  "Rohan",       "Sam",   "Sami",  "Samir",  "Sanjay", "S\xC3\xB8ren", "Sven",
    "Tariq", "Theo",        "Tuan",  "Umar",  "Victor", "Wei",    "Yosef",        "Yusuf",
};

static const struct corpus_noun nouns[] = {
    { "apple", "apples", OB_FOOD | OB_FRUIT },
    { "orange", "oranges", OB_FOOD | OB_FRUIT },
    { "pear", "pears", OB_FOOD | OB_FRUIT },
    { "plum", "plums", OB_FOOD | OB_FRUIT },
    { "peach", "peaches", OB_FOOD | OB_FRUIT },
    { "lemon", "lemons", OB_FOOD | OB_FRUIT },
    { "mango", "mangoes", OB_FOOD | OB_FRUIT },
    { "cherry", "cherries", OB_FOOD | OB_FRUIT },
    { "berry", "berries", OB_FOOD | OB_FRUIT },
    { "fig", "figs", OB_FOOD | OB_FRUIT },
    { "tomato", "tomatoes", OB_FOOD | OB_FRUIT },
    { "cookie", "cookies", OB_FOOD | OB_BAKED },
    { "muffin", "muffins", OB_FOOD | OB_BAKED },
    { "bun", "buns", OB_FOOD | OB_BAKED },
    { "cupcake", "cupcakes", OB_FOOD | OB_BAKED },
    { "pancake", "pancakes", OB_FOOD | OB_BAKED },
    { "pretzel", "pretzels", OB_FOOD | OB_BAKED },
    { "pie", "pies", OB_FOOD | OB_BAKED },
    { "nut", "nuts", OB_FOOD },
    { "carrot", "carrots", OB_FOOD },
    { "dumpling", "dumplings", OB_FOOD },
    { "sandwich", "sandwiches", OB_FOOD },
    { "potato", "potatoes", OB_FOOD },
    { "marble", "marbles", OB_TOY | OB_SMALL },
    { "sticker", "stickers", OB_TOY | OB_SMALL },
    { "card", "cards", OB_TOY | OB_SMALL },
    { "shell", "shells", OB_TOY | OB_SMALL },
    { "stamp", "stamps", OB_TOY | OB_SMALL },
    { "bead", "beads", OB_TOY | OB_SMALL },
    { "button", "buttons", OB_TOY | OB_SMALL },
    { "stone", "stones", OB_TOY | OB_SMALL },
    { "feather", "feathers", OB_TOY | OB_SMALL },
    { "ball", "balls", OB_TOY | OB_BUY },
    { "balloon", "balloons", OB_TOY },
    { "block", "blocks", OB_TOY },
    { "doll", "dolls", OB_TOY | OB_BUY },
    { "kite", "kites", OB_TOY | OB_BUY },
    { "puzzle", "puzzles", OB_TOY | OB_BUY },
    { "pencil", "pencils", OB_DESK },
    { "pen", "pens", OB_DESK },
    { "crayon", "crayons", OB_DESK },
    { "marker", "markers", OB_DESK },
    { "brush", "brushes", OB_DESK },
    { "notebook", "notebooks", OB_DESK },
    { "book", "books", OB_READ | OB_BUY },
    { "comic", "comics", OB_READ },
    { "map", "maps", OB_READ },
    { "flower", "flowers", OB_PLANT },
    { "tulip", "tulips", OB_PLANT },
    { "rose", "roses", OB_PLANT },
    { "daisy", "daisies", OB_PLANT },
    { "lily", "lilies", OB_PLANT },
    { "hat", "hats", OB_WEAR | OB_BUY },
    { "scarf", "scarves", OB_WEAR | OB_BUY },
    { "shirt", "shirts", OB_WEAR | OB_BUY },
    { "cap", "caps", OB_WEAR | OB_BUY },
    { "candle", "candles", OB_GOODS },
    { "lamp", "lamps", OB_GOODS | OB_BUY },
    { "mug", "mugs", OB_GOODS | OB_BUY },
    { "cup", "cups", OB_GOODS },
    { "spoon", "spoons", OB_GOODS },
    { "coat", "coats", OB_BUY },
    { "clock", "clocks", OB_BUY },
    { "drum", "drums", OB_BUY },
    { "cow", "cows", OB_FIELD },
    { "sheep", "sheep", OB_FIELD },
    { "goat", "goats", OB_FIELD },
    { "horse", "horses", OB_FIELD },
    { "hen", "hens", OB_FIELD },
    { "rabbit", "rabbits", OB_FIELD | OB_BEAST },
    { "duck", "ducks", OB_POND | OB_BEAST },
    { "goose", "geese", OB_POND | OB_BEAST },
    { "bird", "birds", OB_POND | OB_BEAST },
    { "frog", "frogs", OB_POND | OB_BEAST },
    { "fox", "foxes", OB_BEAST },
    { "bear", "bears", OB_BEAST },
    { "mouse", "mice", OB_BEAST },
    { "turtle", "turtles", OB_BEAST },
    { "squirrel", "squirrels", OB_BEAST },
    { "cat", "cats", OB_BEAST },
    { "dog", "dogs", OB_BEAST },
    { "child", "children", OB_WHO },
    { "student", "students", OB_WHO },
    { "player", "players", OB_WHO },
    { "dancer", "dancers", OB_WHO },
    { "singer", "singers", OB_WHO },
    { "guest", "guests", OB_WHO },
    { "visitor", "visitors", OB_WHO },
    { "box", "boxes", OB_HOLDER },
    { "bag", "bags", OB_HOLDER },
    { "basket", "baskets", OB_HOLDER },
    { "crate", "crates", OB_HOLDER },
    { "dollar", "dollars", OB_MONEY },
    { "euro", "euros", OB_MONEY },
    { "coin", "coins", OB_MONEY },
    { "mile", "miles", OB_WAY },
    { "kilometer", "kilometers", OB_WAY },
    { "chair", "chairs", OB_SEAT },
    { "bench", "benches", OB_SEAT },
    { "table", "tables", OB_SEAT },
};

static const char *const gathering[] = {
    "in the park", "on the bus",   "on the train",     "in the library", "at the pool",
    "at the lake", "in the hall",  "in the garden",    "at the market",  "in the room",
    "at the fair", "on the beach", "in the classroom", "at the party",
};

static const char *const places[] = {
    "forest", "park", "garden", "beach", "hill", "river", "lake", "meadow",
};

static const char *const colors[] = {
    "red", "blue", "green", "yellow", "white", "brown", "black", "pink", "purple", "orange",
};

static const char *const days[] = {
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
};

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static uint32_t n_tagged(uint32_t tags)
{
    uint32_t n = 0;
    for (size_t i = 0; i < COUNT(nouns); i++)
        n += (nouns[i].tag & tags) != 0;
    return n;
}

const struct corpus_noun *corpus_noun(struct rng *r, uint32_t tags, const struct corpus_noun *other)
{
    uint32_t n = n_tagged(tags);
    assert(n >= 2);
    for (;;) {
        uint64_t left = rng_below(r, n);
        for (size_t i = 0; i < COUNT(nouns); i++)
            if ((nouns[i].tag & tags) && left-- == 0 && &nouns[i] != other)
                return &nouns[i];
    }
}

static struct corpus_name draw_name(struct rng *r, bool is_she)
{
    const char *const *list = is_she ? she : he;
    return (struct corpus_name){ list[rng_below(r, is_she ? COUNT(she) : COUNT(he))], is_she };
}

void corpus_names(struct rng *r, bool apart, struct corpus_name *name)
{
    bool first = rng_below(r, 2) == 0;
    for (int i = 0; i < NAMES_MAX; i++) {
        bool is_she = i == 0 ? first : apart ? !first : rng_below(r, 2) == 0, taken;
        do {
            name[i] = draw_name(r, is_she);
            taken = false;
            for (int k = 0; k < i; k++)
                taken |= name[k].text == name[i].text;
        } while (taken);
    }
}

void corpus_words(struct rng *r, const char *word[WORDS])
{
    size_t color = rng_below(r, COUNT(colors)), day = rng_below(r, COUNT(days));
    word[WORD_IN] = gathering[rng_below(r, COUNT(gathering))];
    word[WORD_PLACE] = places[rng_below(r, COUNT(places))];
    word[WORD_COLOR] = colors[color];
    word[WORD_COLOR2] = colors[(color + 1 + rng_below(r, COUNT(colors) - 1)) % COUNT(colors)];
    word[WORD_DAY] = days[day];
    word[WORD_DAY2] = days[(day + 1) % COUNT(days)];
}
