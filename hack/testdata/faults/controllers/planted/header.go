package planted // fault: goheader
