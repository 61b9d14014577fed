-- First messages of conversations are looked at for near duplicates, too: those that are there already, at the next refresh.
delete from near_progress where noun = 'pairs' and exists (from pairs where len(prompt) > 1);
delete from near_progress where noun = 'demonstrations' and exists (from demonstrations where len(prompt) > 1);
delete from near_progress where noun = 'likes' and exists (from likes where len(prompt) > 1);
