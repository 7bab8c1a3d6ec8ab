/* eval/pools_table.c - the built-in word lists. Words are parted by ';'. "word/plural", "Name|f",
 * "words=number". Written for this project. */
#include "eval/pools_table.h"

#define NAMES_M                                                                                    \
    "Adrian|m;Ahmet|m;Aiden|m;Andrei|m;Anton|m;Arjun|m;Basil|m;Bilal|m;Boris|m;Callum|m;Cyrus|m;"  \
    "Dario|m;Dmitri|m;Edwin|m;Elias|m;Emeka|m;Farid|m;Felix|m;Goran|m;Hamid|m;Hugo|m;Ibrahim|m;"   \
    "Ivan|m;Jakub|m;Jorge|m;Kenji|m;Kofi|m;Lamar|m;Leon|m;Marco|m;Mateo|m;Nikhil|m;Oskar|m;"       \
    "Pavel|m;Quentin|m;Rashid|m;Stefan|m;Tariq|m;Tomas|m;Victor|m;Wei|m;Yusuf|m"
#define NAMES_F                                                                                    \
    "Aisha|f;Amelie|f;Anika|f;Beatriz|f;Bianca|f;Carmen|f;Chloe|f;Daria|f;Elena|f;Esther|f;"       \
    "Fatima|f;Freya|f;Greta|f;Hana|f;Ingrid|f;Irina|f;Jasmine|f;Judith|f;Katya|f;Keiko|f;"         \
    "Layla|f;Leila|f;Lucia|f;Mei|f;Miriam|f;Nadia|f;Noemi|f;Olga|f;Paloma|f;Priya|f;Rosa|f;"       \
    "Salma|f;Sonja|f;Tamara|f;Uma|f;Vera|f;Wanda|f;Ximena|f;Yara|f;Zainab|f"
#define UNIT_WORDS                                                                                 \
    "half=1/2;a third=1/3;a quarter=1/4;a fifth=1/5;a sixth=1/6;an eighth=1/8;a tenth=1/10"
#define UNIT_DIGITS "1/2=1/2;1/3=1/3;1/4=1/4;1/5=1/5;1/6=1/6;1/7=1/7;1/8=1/8;1/9=1/9;1/10=1/10"
#define FRAC_DIGITS                                                                                \
    "1/2=1/2;1/3=1/3;2/3=2/3;1/4=1/4;3/4=3/4;2/4=2/4;1/5=1/5;2/5=2/5;3/5=3/5;4/5=4/5;1/6=1/6;"     \
    "5/6=5/6;1/8=1/8;3/8=3/8;5/8=5/8;7/8=7/8;1/10=1/10;3/10=3/10;7/10=7/10;9/10=9/10"
#define FRAC_WORDS                                                                                 \
    "one-half=1/2;one-third=1/3;two-thirds=2/3;one-fourth=1/4;three-fourths=3/4;one-fifth=1/5;"    \
    "two-fifths=2/5;three-fifths=3/5;four-fifths=4/5;one-sixth=1/6;two-sixths=2/6;"                \
    "four-sixths=4/6;five-sixths=5/6;one-seventh=1/7;one-eighth=1/8;one-ninth=1/9;one-tenth=1/10"

const struct pool_row pool_table[] = {
    { "names_male", ITEM_NAME, NAMES_M },
    { "names_female", ITEM_NAME, NAMES_F },
    { "names", ITEM_NAME, NAMES_M ";" NAMES_F },
    { "currencies_sym", ITEM_SURFACE,
      "$;\xE2\x82\xAC;\xC2\xA5;\xE2\x82\xBA;\xE2\x82\xA3;\xE2\x82\xA4" },
    { "fractions", ITEM_NUMBER, UNIT_WORDS ";" UNIT_DIGITS },
    { "fraction_nums", ITEM_NUMBER, FRAC_DIGITS },
    { "fraction_alph", ITEM_NUMBER, FRAC_WORDS },
    { "fraction_alnum", ITEM_NUMBER, FRAC_DIGITS ";" FRAC_WORDS },
    { "fraction_decimals", ITEM_NUMBER, "=0.1;=0.2;=0.3;=0.4;=0.5;=0.6;=0.7;=0.8;=0.9" },
    { "multi_times", ITEM_NUMBER,
      "two times=2;three times=3;four times=4;five times=5;six times=6;seven times=7;"
      "eight times=8;nine times=9;ten times=10" },
    { "multiple_ice", ITEM_NUMBER, "twice=2;thrice=3" },
    { "multiple", ITEM_NUMBER, "double=2;triple=3;quadruple=4;quintuple=5" },
    { "weekdays", ITEM_NAME, "Monday;Tuesday;Wednesday;Thursday;Friday;Saturday;Sunday" },
    { "sports", ITEM_NAME,
      "tennis;handball;rugby;hockey;badminton;cricket;volleyball;water polo;fencing;lacrosse" },
    { "colors", ITEM_NAME,
      "red;blue;green;yellow;purple;pink;brown;black;white;gray;teal;maroon;beige;navy;violet;"
      "turquoise;silver;gold" },
    { "fruits", ITEM_NAME,
      "apple;pear;mango;papaya;banana;kiwi;plum;lemon;apricot;melon;fig;guava;nectarine" },
    { "cities", ITEM_NAME,
      "Lisbon;Oslo;Nairobi;Quito;Hanoi;Prague;Dublin;Accra;Lima;Osaka;Vienna;Cairo;Riga;Sofia;"
      "Tunis;Bogota;Manila;Geneva;Dakar;Porto;Leeds;Ghent;Perth;Havana;Zagreb;Izmir;Seville;"
      "Kyoto;Bergen" },
    { "weights_med", ITEM_SURFACE, "kg;pound;kilogram" },
    { "weights_sm", ITEM_SURFACE, "ounce;gram" },
    { "length_lg", ITEM_SURFACE, "mile;kilometer" },
    /* of our own templates */
    { "person", ITEM_NAME, NAMES_M ";" NAMES_F },
    { "currency", ITEM_SURFACE, "$;\xE2\x82\xAC;\xC2\xA3" },
    { "snack", ITEM_NAME,
      "muffin;pretzel;bagel;cookie;waffle;sandwich/sandwiches;pancake;samosa;dumpling;"
      "empanada;scone;croissant" },
    { "fruit", ITEM_NAME,
      "apple;orange;pear;peach/peaches;mango/mangoes;lemon;plum;melon;banana;apricot;fig;lime" },
    { "stationery", ITEM_NAME,
      "notebook;pencil;marker;eraser;folder;ruler;stapler;binder;crayon;envelope" },
    { "toy", ITEM_NAME,
      "marble;sticker;toy car;puzzle;kite;yo-yo;doll;board game;rubber duck;model plane" },
    { "plant", ITEM_NAME,
      "tulip;rose;daisy/daisies;sunflower;cactus/cacti;fern;orchid;lily/lilies;tomato plant;"
      "basil plant;lavender bush/lavender bushes;oak tree" },
    { "animal", ITEM_NAME, "cow;goat;hen;duck;horse;rabbit;donkey;alpaca;pig;turkey;llama" },
    { "drink", ITEM_NAME, "juice;tea;coffee;lemonade;milk;cocoa;iced tea;soup;cider" },
    { "material", ITEM_NAME, "sand;gravel;cement;soil;salt;flour;rice;sugar;grain" },
    { "vehicle", ITEM_NAME, "bus/buses;van;truck;car;tractor;scooter;minibus/minibuses;tram" },
    { "place", ITEM_NAME,
      "library;museum;market;stadium;theater;bakery;school;park;factory;harbor;station;garden" },
    { "city", ITEM_NAME,
      "Lisbon;Oslo;Nairobi;Quito;Hanoi;Prague;Dublin;Accra;Lima;Osaka;Vienna;Cairo;Riga;Sofia" },
    { "color", ITEM_NAME, "red;blue;green;yellow;purple;pink;brown;black;white;gray;teal;orange" },
    { "book", ITEM_NAME, "novel;comic;biography;cookbook;atlas;mystery;fairy tale;travel guide" },
    { "craft", ITEM_NAME,
      "bracelet;candle;basket;scarf/scarves;mug;poster;necklace;vase;pillow;hat;bowl" },
    { "worker", ITEM_NAME,
      "painter;carpenter;gardener;baker;tailor;mason;plumber;cleaner;electrician" },
    { "sport", ITEM_NAME,
      "tennis;handball;rugby;hockey;badminton;cricket;volleyball;water polo;basketball" },
    { "weekday", ITEM_NAME, "Monday;Tuesday;Wednesday;Thursday;Friday;Saturday;Sunday" },
    { "relative", ITEM_NAME, "brother|m;sister|f;cousin;uncle|m;aunt|f;mother|f;father|m" },
    { NULL, ITEM_NAME, NULL },
};
