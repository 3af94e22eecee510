"""What checks a reader's answer: one file a chapter.

In a notebook:

    from nemlib.exercises import gibbs as check
    check.standard_error(standard_error)      # the verdict on the function above
    check.hint("standard_error")              # the next of three hints
    check.solution("standard_error")

How to add an exercise (to `nemlib/exercises/<chapter>.py`, in about thirty lines):

1. Write the solution as a small function with type hints and a docstring, and decorate it with
   `@function_exercise(...)`. Its signature and docstring make the stub, its source the solution.
2. `truth`: the same quantity computed in another way: enumerated, summed by loops, solved by bisection.
3. `cases`: a function of a `torch.Generator` that gives tuples of arguments, small and readable numbers
   (round them); they are tried from the smallest to the largest, and the smallest that differs is shown.
4. `misconceptions`: `wrong(name, mutant, says=…, hint=…)` for each wrong answer that readers really give.
   A mutant is the wrong answer itself, as code. Say why it tempts; hint with a question or a test case.
5. `hints`: three, from a nudge to nearly the solution.
6. Name the exercise in the chapter's `EXERCISES`, from which `hint` and `solution` are made.

`ValueExercise` takes a number or an array, `Formula` a formula as text, `Derivation` a chain of formulas
(give the full chain, the numbers of the lines to blank, and typical wrong values as expressions). Then add
the exercise to the chapter's test: it runs the solution, tells all mutants apart and recognises each.

For nbgrader, `exercise.grade_source()` is the graded cell; `.stub_source()`, `.solution_source()`,
`.check_source()`, `.markdown()` and `.teaching_notes` are what the editions are made of.
"""
