"""find_in_memory.py FILE TEXT…: prints for each text whether the file (a guest's memory or disk) contains it: yes or no."""

import mmap
import os
import sys

descriptor = os.open(sys.argv[1], os.O_RDONLY)
length = os.fstat(descriptor).st_size
with mmap.mmap(descriptor, length, prot=mmap.PROT_READ) as memory:
    for text in sys.argv[2:]:
        print("yes" if memory.find(text.encode()) >= 0 else "no")
