/* mm_base.h - everything of the ground floor. */
#ifndef MM_BASE_H
#define MM_BASE_H
#include "base/mm_dtype.h"
#include "base/mm_err.h"
#include "base/mm_file.h"
#include "base/mm_json.h"
#include "base/mm_mem.h"
#include "base/mm_str.h"
#endif
