/* engine/base/banned.h - calls that have hurt others: they fail to compile here. Include it last in
 * a .c file's include list (every source file of the project does, through meson's -include). */
#ifndef STROBE_BASE_BANNED_H
#define STROBE_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#pragma GCC poison strcpy strcat sprintf vsprintf strtok strtok_r atoi atol atof atoll rand srand
#pragma GCC poison localtime gmtime asctime ctime gets

#endif
