"""Every sentence that a person reads on the screens: labels, hints, empty states, notices.

Words follow the glossary: release, deployment, comparison, vote, pair, demonstration, run, suite, gate.
"""

from __future__ import annotations

from common.training_methods import Method

TITLE = "Trimtab"

# ---- everywhere
FAILED = "That did not work"
UNREACHABLE = "The platform does not answer. Is it still running? Your input is kept; try again."
UNEXPECTED = "The screens ran into a fault of their own ({kind}); the platform's log has it. Nothing is lost: try again."
SIGN_IN = "You are signed out. Sign in again and repeat this."
NOT_ALLOWED = "Your role does not allow this."
NAV = (("chat", "Chat", "./"), ("rank", "Rank", "./rank"), ("ops", "Ops", "./ops"))
SHORTCUTS_LABEL = "Keyboard shortcuts"
SHORTCUTS_CLOSE = "Close"
SHORTCUTS = (
    (
        "Everywhere",
        (
            ("?", "This page"),
            ("Ctrl K", "Find a command or conversation"),
            ("/", "Write"),
            ("Esc", "Close what is open; leave a text field"),
        ),
    ),
    (
        "Chat",
        (("Enter", "Send"), ("Shift Enter", "New line"), ("N", "New conversation"), ("S", "Stop the answer")),
    ),
    (
        "Compare",
        (
            ("A", "A is better"),
            ("B", "B is better"),
            ("T", "Tie"),
            ("X", "Both bad"),
            ("A B C D, T, Enter", "Of several: from the best to the worst, as good as the last, vote"),
        ),
    ),
    (
        "Rank",
        (
            ("N", "Next, or skip this one"),
            ("K", "Skip, with a reason"),
            ("U", "Undo the last vote"),
            ("1, 2, 0", "Slightly, clearly, not said"),
            ("R", "Reasons"),
            ("W", "Write a better response"),
            ("V", "Show it another way"),
            ("G", "Guidelines"),
            ("D", "Draw a prompt"),
            ("C", "Sample responses"),
        ),
    ),
)
PALETTE_LABEL = "Go to or do"
PALETTE_HINT = "A command, a screen or a conversation"
PALETTE_NOTHING = "Nothing of that name. Search all messages in the list of conversations."
THEME_LABEL = "Switch between light and dark"
SINGLE_USER = "single-user"
READY = "Ready"
LOADING = "Loading"
OFFLINE = "Offline"

CODE_COPY = "Copy code"
CODE_COPIED = "Copied"

# ---- chat
CHAT_MODEL = "Model"
CHAT_INPUT = "Message"
CHAT_PLACEHOLDER = "Write a message"
CHAT_SEND = "Send"
CHAT_STOP = "Stop"
CHAT_COMPARE = "Compare two answers"
CHAT_NEW = "New conversation"
CHAT_HISTORY = "Conversations"
CHAT_SEARCH = "Search all messages"
CHAT_SEARCH_EMPTY = "No conversation has this in it."
CHAT_HISTORY_EMPTY = "Nothing here yet. Your conversations appear here after their first answer."
CHAT_MORE = "Show earlier ones"
CHAT_MENU = "Options of"
CHAT_MENU_TITLE = "Options"
CHAT_RENAME = "Rename"
CHAT_RENAME_ASK = "Name of this conversation (empty: its first words)"
CHAT_PIN = "Pin"
CHAT_UNPIN = "Unpin"
CHAT_FOLDER = "Folder"
CHAT_FOLDER_ASK = "Folder, a new one or one you have (empty: none)"
CHAT_LINK = "Share"
CHAT_DELETE = "Delete"
CHAT_UNDO = "Undo"
CHAT_DELETED = "Recently deleted"
CHAT_DELETED_ONE = "Deleted: {}"
CHAT_ERASED = "erased for good {}"
CHAT_RESTORE = "Restore"
CHAT_ASK_SAVE = "Save"
CHAT_ASK_CANCEL = "Cancel"
CHAT_LINK_TITLE = "Read-only link"
CHAT_LINK_HINT = (
    "Whoever can sign in here and has this link reads the conversation as it is now. What you say later is not shown "
    "until you share again."
)
CHAT_LINK_COPY = "Copy link"
CHAT_LINK_COPIED = "Copied"
CHAT_LINK_REVOKE = "Stop sharing"
CHAT_UNSHARED = "The link leads nowhere any more."
CHAT_SHARED_TITLE = "Shared with you"
CHAT_SHARED_HINT = "You can read this conversation; only its owner can go on with it."
CHAT_SHARED_GONE = (
    "This link leads nowhere any more. Whoever shared it took it back or deleted the conversation."
)
CHAT_SHARED_OWN = "Begin a conversation of your own"
CHAT_EMPTY = """## What would you like to talk about?

Every answer says which release gave it. The thumbs below an answer become training data, unless you choose otherwise
below; **Compare two answers** asks for two and lets you choose."""
CHAT_EXAMPLES = (
    "Explain in two sentences how tides work.",
    "Write a polite reply that declines a meeting on Friday.",
    "Give me three ideas for a rainy afternoon.",
)
CHAT_OPTIONS = "Sampling"
CHAT_TEMPERATURE = "Temperature"
CHAT_MAX_TOKENS = "Longest answer, in tokens"
CHAT_DEFAULT = "the release's own"
CHAT_STOPPED = "Stopped."
CHAT_NOTHING_TO_SEND = "Write a message first."
CHAT_WAITING = "Thinking"
CHAT_THOUGHT = "Thought"
CHAT_THOUGHT_FOR = "for {}"
CHAT_CALL = "Tool call"
CHAT_ARGUMENTS = "Arguments"
CHAT_NO_ARGUMENTS = "No arguments."
CHAT_RESULT = "Result"
CHAT_NO_RESULT = "No result yet."
CHAT_EMPTY_RESULT = "The result is empty."
CHAT_TOOL = "Tool"
CHAT_PARAMETERS = "Parameters"
CHAT_EXPORT = "Export"
CHAT_EXPORT_FORMS = (("markdown", "Markdown, to read"), ("json", "JSON, OpenAI's messages"))
CHAT_ROLES = {
    "system": "System",
    "developer": "System",
    "user": "User",
    "assistant": "Assistant",
    "tool": "Tool result",
}
CHAT_SYSTEM = "System prompt"
CHAT_TOOLS = "{} tool{}"
CHAT_SAMPLING_TWO = "Writing two answers. Both are finished before either is shown"
CHAT_PAIR_TITLE = "Which answer is better?"
CHAT_PAIR_HINT = "Two answers, in random order. The one you choose stays in the conversation."
CHAT_BOTH_BAD = "Recorded that neither was good. Ask again, or put it differently."
CHAT_LIKED = "Thanks: recorded as a good answer."
CHAT_DISLIKED = "Thanks: recorded as a poor answer."
CHAT_SHARE = "Who may use my conversations"
CHAT_SHARES = (
    ("Nobody", "none"),
    ("People who rate answers may read them", "show"),
    ("They may, and models may learn from them", "train"),
)
CHAT_SHARED = {
    "none": "Saved. Raters will not see what you said, earlier conversations included, and the next training leaves it out.",
    "show": "Saved. Raters may see what you said; the next training leaves it out.",
    "train": "Saved. Raters may see what you said, and models may learn from it.",
}
CHAT_LIKE_LATER = "This answer was not recorded by the platform, so it can't be rated."
CHAT_WHY_FULL = (
    "The conversation is longer than the model can read: begin a new one (N), or reword an earlier message, which "
    "leaves out what followed it."
)
CHAT_WHY_QUOTA = "Your message is kept. An operator can raise the budget."
CHAT_WHY_LIMIT = "Your message is kept: send it again then."
CHAT_WHY_ENGINE = "What was written is kept: continue it, or ask again with the round arrow."
CHAT_USE = "{} of {} tokens ({})"
CHAT_USE_FULL = "Almost full: begin a new conversation soon, or reword an earlier message."
CHAT_UNWATCHED = "No engine came up while the page was closed; your message was not sent"
CHAT_STILL_ANSWERING = "An answer is still being written in this conversation. Wait for it, or stop it first"
CHAT_EARLIER = "Show {} of {} earlier messages"
CHAT_VERSION_BEFORE = "Earlier version"
CHAT_VERSION_AFTER = "Later version"
CHAT_CUT = "This answer ended at its limit of tokens."
CHAT_CUT_STOPPED = "This answer was stopped."
CHAT_CONTINUE = "Continue"
CHAT_EMPTY_ANSWER = "The release answered with nothing."

ENGINE_LOADING = "The model is loading"
ENGINE_LOADING_BODY = "You can write already: your message is sent as soon as the engine serves."
ENGINE_WAITING = "The model is still loading. Your message is sent as soon as it serves"
ENGINE_FAILED = "An engine failed"
NO_MODELS = "The platform serves no model yet."

# ---- rank
RANK_PROMPT = "Prompt"
RANK_PROMPT_PLACEHOLDER = "Write what someone might ask, or draw a prompt."
RANK_SYSTEM = "Earlier in this conversation"
RANK_DRAW = "Draw a prompt"
RANK_COMPARE = "Sample responses"
RANK_NEXT = "Next comparison  (N)"
RANK_SKIP = "Skip this one  (N)"
RANK_EMPTY_TITLE = "No comparison shown"
RANK_EMPTY = "Write or draw a prompt and sample responses, or take the next comparison from the queue."
RANK_SAMPLING = "Sampling responses"
RANK_SAMPLING_HINT = "All are written before any is shown, so that speed gives nothing away."
RANK_VOTE = {"a": "A is better", "b": "B is better", "tie": "Tie", "both_bad": "Both bad"}
RANK_KEYS = {"a": "A", "b": "B", "tie": "T", "both_bad": "X"}
RANK_VIEW = "Show"
RANK_VIEWS = (
    ("Formatted", "formatted"),
    ("Plain text", "plain"),
    ("Differences", "differences"),
    ("Same length", "same_length"),
)
RANK_CUT = "and {words} words more"
RANK_TOO_LONG = "These texts are too long to compare word by word."
RANK_STRENGTH = "How much better?"
RANK_STRENGTHS = (("Not said (0)", ""), ("Slightly (1)", "slightly"), ("Clearly (2)", "clearly"))
RANK_REASONS = "Reasons for {side}"
RANK_UNSAFE = "Unsafe"
RANK_COMMENT = "Comment"
RANK_COMMENT_INFO = "Optional. Kept with your vote, for the operators."
RANK_ORDER_HINT = "Press the responses from the best to the worst."
RANK_ORDER_TIE = "As good as the last (T)"
RANK_ORDER_CLEAR = "Start again (Backspace)"
RANK_ORDER_VOTE = "Vote  (Enter)"
RANK_ORDER_INCOMPLETE = "Put all responses in an order first, the best one first."
RANK_ALL_BAD = "All bad  (X)"
RANK_UNDO = "Undo vote  (U)"
RANK_UNDONE = "Your vote is taken back, with all that it made. Vote again, or go on."
RANK_SKIP_BECAUSE = "Skip, because…  (K)"
RANK_SKIPPED = "Skipped: {reason}. It does not come back to you."
RANK_GUIDELINES = "Guidelines"
RANK_GUIDELINES_KEY = "Guidelines (G)"
RANK_HISTORY = "Your votes"
RANK_HISTORY_EMPTY = "No vote yet. Your votes appear here, and any of them can be taken back."
RANK_REOPEN = "Reopen"
RANK_REVISED = "revised"
RANK_VERDICT = {"a": "A", "b": "B", "c": "C", "d": "D", "tie": "Tie", "both_bad": "Both bad"}
RANK_CHANGES = "What you changed"
RANK_BETTER = "Say why, or write a better response"
RANK_BETTER_LABEL = "Your response"
RANK_BETTER_INFO = "Optional. It beats both responses and becomes a demonstration."
RANK_FILL_A = "Start from A"
RANK_FILL_B = "Start from B"
RANK_TAGS = "Why?"
RANK_TAGS_INFO = "Optional. Pick any, or write your own."
RANK_TAG_CHOICES = (
    "accurate",
    "clear",
    "concise",
    "follows instructions",
    "friendly",
    "well formatted",
    "unsafe",
)
RANK_QUEUE_EMPTY = "The queue is empty. Write or draw a prompt instead."
RANK_NO_PROMPTS = "There are no prompts to draw from yet. Chat first, or import pairs in Ops."
RANK_NO_PROMPT = "Write or draw a prompt first."
RANK_VOTED = "Your vote counts. It was:"

# ---- ops
OPS_DENIED_TITLE = "Ops is for operators"
OPS_DENIED = "Your account has the roles {roles}. Ask someone with the role ops."
RANK_DENIED_TITLE = "Ranking needs the role rater"
TABS = ("Overview", "Training", "Releases", "Data", "Curate", "Access", "Audit")
ENGINES = "Engines"
CARDS = "Graphics cards"
FREE = "Free"
ABOUT = "about "
ENGINES_EMPTY = "No engine is configured. Add a base model to the settings, then restart the platform."
LOG_TAIL = "Log"
DEPLOYMENTS = "Deployments"
VOTES_OPERATOR = "An operator decides."
VOTES_MORE = "They decide after {rest} more."
VOTES_EVIDENCE = (
    "Evidence: better {better:.1f} ({needed:.0f} promotes), worse {worse:.1f} ({against:.0f} rolls back)."
)
VOTES_INTERVAL = "Win rate {rate}, {low} to {high} whenever one looks, over {blocks} {unit}."
VOTES_UNITS = {"team": "rounds of the team", "crowd": "raters"}
VOTES_ENDED = "Its time is over without a verdict: an operator decides."
VOTES_OTHERS = "{others} further votes do not decide (typed prompts, named releases, repeats)."
VOTES_LEFT_OUT = "{raters} raters are left out by rule."
VOTES_WITHOUT = "Without {rater}: undecided."
VOTES_ENDS = "It ends at {votes} votes or on {date}."
DEPLOYMENTS_EMPTY = "No deployment yet. One appears as soon as a base model is configured."
ROLLOUT = "Rollout"
ROLLOUT_HINT = (
    "Canary gives a release a share of the traffic; promote makes it stable; roll back undoes either."
)
ROLLOUT_DEPLOYMENT = "Deployment"
ROLLOUT_RELEASE = "Release"
ROLLOUT_WEIGHT = "Canary share"
ROLLOUT_REASON = "Reason"
ROLLOUT_REASON_HINT = "Needed for a release that its gate rejected; it goes to the audit log."
CANARY = "Start canary"
PROMOTE = "Promote"
ROLLBACK = "Roll back"
SCHEDULE = "Schedule"
SCHEDULE_OFF = (
    "Off. Runs start only by hand. The settings can start them by cron or by the number of new rows."
)

TRAIN = "Retrain"
TRAIN_HINT = (
    "Trains a LoRA adapter on the pairs or demonstrations, measures it, and rolls it out as far as you say."
)
TRAIN_METHOD = "Method"
TRAIN_METHODS: tuple[tuple[str, Method], ...] = (
    ("DPO, from preference pairs", "dpo"),
    ("SFT, from demonstrations", "sft"),
    ("KTO, from likes and dislikes", "kto"),
)
TRAIN_PRECISION = "Base weights while training"
TRAIN_PRECISIONS = (("LoRA, full precision", False), ("QLoRA, 4-bit NF4", True))
TRAIN_RECIPE = "Recipe"
TRAIN_RECIPE_NONE = "The method's defaults"
TRAIN_RECIPE_INFO = "What the fields below leave empty comes from it."
TRAIN_STEPS = "Steps"
ACTIVITIES = {
    "loading": "Loading the model",
    "reference": "Scoring the rows with the reference",
    "before": "Scoring the held-out rows",
    "training": "Training",
    "after": "Scoring the held-out rows",
    "saving": "Saving the adapter",
    "probe": "Measuring what the served adapter will be compared with",
}
ACTIVITY_SFT = "First on the chosen answers (SFT): {doing}"
TRAIN_DEFAULT = "the recipe's"
TRAIN_RATE = "Learning rate"
TRAIN_BETA = "Beta (DPO, KTO)"
TRAIN_RANK = "LoRA rank (r)"
TRAIN_ROLLOUT = "Then"
TRAIN_ROLLOUTS = (
    ("Publish only, no traffic", "none"),
    ("Start a canary", "canary"),
    ("Make it stable", "promote"),
)
TRAIN_GATE = "Gate"
TRAIN_GATES = (("Must pass", "enforce"), ("Report only", "report"))
TRAIN_BEGIN = "Begin from"
TRAIN_BEGINS = (
    ("The base, or what other methods trained", "auto"),
    ("The stable release's adapter", "stable"),
    ("The base", "base"),
)
TRAIN_START = "Start training"
TRAIN_PLAN = "Plan"
TRAIN_PLAN_TITLE = "Plan"
TRAIN_FITS = "fits"
TRAIN_FITS_NOT = "does not fit"
TRAIN_CANCEL = "Cancel run"
TRAIN_RESUME = "Resume run"
TRAIN_ADVANCED = "More parameters"
TRAIN_EXTRA = "Other parameters"
TRAIN_EXTRA_INFO = (
    "One name = value a line, by TRL's and PEFT's own names, such as gradient_accumulation_steps = 4"
)
TRAIN_QUEUED = "Run {id} is queued."
RUNS = "Runs"
RUN_LEFT_OUT = "Left out of training or shortened: {counts}."
RUN_NOTES = "Notes of the run"
RUNS_EMPTY_TITLE = "No run yet"
RUNS_EMPTY = "Collect some votes in Rank, then start the first run with the form."
LOSS_PLOT = "Loss"
MARGIN_PLOT = "Reward margin"
ACCURACY_PLOT = "Token accuracy"
GATE_REPORT = "Gate"

RELEASES = "Releases"
RELEASES_EMPTY = "No release yet."
LEADERBOARD = "Leaderboard"
LEADERBOARD_EMPTY = "No votes between releases yet. Rank some comparisons and the ranking builds itself."
LEADERBOARD_HINT = (
    "From votes between releases; the bar is the 95% interval. Scores of different groups, which nobody compared, "
    "say nothing about each other."
)
LEADERBOARD_GROUP = "group {group}"
NEW_RELEASE = "New release from a prompt"
NEW_RELEASE_HINT = (
    "A prompt change is a release like any other: measured, gated and rolled out the same way. "
    'What you leave out stays as in stable; the prompt "none" removes it.'
)
NEW_RELEASE_PROMPT = "System prompt"
NEW_RELEASE_FROM = "Adapter of"
NEW_RELEASE_STABLE = "Stable, as it is now"
NEW_RELEASE_BASE = "None (base model)"
NEW_RELEASE_CREATE = "Create release"
NEW_RELEASE_MADE = "{name} is ready. It takes no traffic until you start a canary or promote it."
EVALUATE = "Evaluate"
EVALUATE_HINT = "Runs the suite through the served endpoint, with confidence intervals."
EVALUATE_AGAINST = "Against"
EVALUATE_ALONE = "Nothing, on its own"
EVALUATE_START = "Start evaluation"
EVALUATION_PAGE = "Report as a page, with the answers and people's votes"
EVALUATIONS_EMPTY = "No evaluation yet. Each run evaluates its release; or start one here."
WAYS = "Prompts, examples, adapters"
WAYS_LIST = "Searches and comparisons"
WAYS_EMPTY = "Nothing compared yet. A prompt may do what an adapter would, without training: search for one, then compare."
WAYS_HINT = "Searches for the best prompt by held-out votes; compares base model, prompts and adapters by quality and cost."
WAYS_START_SEARCH = "Search for a prompt"
WAYS_START = "Compare releases"
WAYS_CANCEL = "Cancel what runs"
WAYS_QUEUED = "Queued. It goes on in the background, also after a restart."
WAYS_CANCELLED = "Cancelled {count}; `trimtab jobs resume` goes on with it."
WAYS_SEARCH = "Search for a prompt"
WAYS_COMPARED = "Releases compared"
WAYS_MODELS = "Models compared"
WAYS_TABLE = "Table"
WAYS_PAGE = "As a page, with every measure"
WAYS_RECOMMENDED = "Recommended:"
WAYS_FOUND = (
    "{release} was made of the best prompt. It takes no traffic until you start a canary or promote it."
)
WAYS_NOTHING = "No prompt is better than none."
WAYS_SEARCH_HEADS = ("Release", "System prompt", "Examples", "On development requests", "On other requests")
WAYS_HEADS = (
    "", "Model", "Wins against base", "Gate", "Prompt tokens", "First token s", "Tokens/s", "Training min", "Added s/day",
)  # fmt: skip
LINEAGE = "Lineage"
LINEAGE_EMPTY = "Pick a release to see what trained it."
NOBODY = "nobody"

DATA_PAIRS = "Preference pairs"
DATA_PAIRS_EMPTY = "No pairs yet. Votes in Rank make them; so does an import."
DATA_CHOSEN_LONGER = "Chosen one was longer"
DATA_PROMPT = "Prompt"
DATA_CHOSEN = "Chosen"
DATA_REJECTED = "Rejected"
DATA_COMPLETION = "Completion"
DATA_CALL = "{} tool call"
DATA_CALLS = "{} tool calls"
DATA_THINKING = "thinking"
DATA_WEIGHT = "weight"
DATA_DEMOS = "Demonstrations"
DATA_DEMOS_EMPTY = "No demonstrations yet. Better responses written in Rank make them; so does an import."
MAKE = "Pairs without people"
MAKE_HINT = (
    "Stable answers each prompt several times; the best answer by the rule and the worst make a pair. Never held out, and "
    "bounded beside votes. Rules of your own, a judge or a better release: trimtab pairs make."
)
MAKE_PREFER = "The better answer is the"
MAKE_PREFERENCES = (("shorter one", "shorter"), ("longer one", "longer"))
MAKE_N = "Answers for each prompt"
MAKE_PROMPTS = "Prompts, one a line"
MAKE_PROMPTS_NONE = "Left empty: the newest prompts that people asked and share for training"
MAKE_START = "Make pairs"
MAKE_CANCEL = "Cancel"
MAKE_NO_DEPLOYMENT = "Choose a deployment first."
MAKE_DONE = (
    "{pairs} pairs of {prompts} prompts; {heldout} prompts kept for held-out data, {undecided} undecided"
)
JOBS = "Jobs"
JOBS_EMPTY = "No job yet. Making pairs, searching prompts and distilling are jobs."
DATA_IMPORT = "Import"
DATA_IMPORT_HINT = (
    "JSON lines, a JSON array, CSV or Parquet, also gzip or zstd; the format (TRL, HH-RLHF, UltraFeedback, Argilla, "
    "OpenAI, ShareGPT, Alpaca and more) is detected from the content. Rows that don't fit are refused one by one, with the "
    "reason. Files above 1 GB: trimtab pairs import FILE."
)
DATA_IMPORT_KIND = "Rows are"
DATA_KINDS = (("Preference pairs", "pairs"), ("Demonstrations", "demonstrations"), ("Likes", "likes"))
DATA_EVERY = "every deployment"
DATA_IMPORT_DEPLOYMENT = "For"
DATA_IMPORT_DRY = "Only check: keep nothing"
DATA_IMPORT_FILE = "File"
DATA_IMPORT_START = "Import"
DATA_IMPORT_CANCEL = "Stop"
DATA_IMPORT_NO_FILE = "Choose a file first."
DATA_IMPORT_GONE = "The uploaded file is no longer there; choose it again."
DATA_IMPORT_SENDING = "Sending the file"
DATA_IMPORT_WAITING = "Waiting for other imports to end"
DATA_IMPORT_READING = "Importing"
DATA_IMPORT_ENDING = "Finishing"
DATA_IMPORT_TRIED = "Checked, and nothing kept:"
DATA_IMPORT_BROKE_OFF = "Incomplete: {where}. The whole rows before were taken."
DATA_IMPORT_FIRST = "The first {shown} of {all} refused rows; the file has all."
DATA_IMPORT_REFUSED = "Download the refused rows"
DATA_IMPORT_STOPPED = (
    "Stopped. At least {rows} rows were taken and stay; the same file again adds only what is missing."
)
DATA_IMPORT_STOPPED_EMPTY = "Stopped. Nothing was kept."

GOLD = "Gold question"
GOLD_HINT = (
    "A question whose answer is known. Raters see it as any other; it measures them and teaches nothing."
)
GOLD_QUESTION = "Question"
GOLD_GOOD = "Right answer"
GOLD_BAD = "Wrong answer"
GOLD_ADD = "Ask it"
GOLD_ADDED = "It waits in the raters' queue."

USERS = "Users"
USERS_EMPTY = "No users. In single-user mode nobody signs in; the first user you add turns sign-in on."
USER_NAME = "Name"
USER_PASSWORD = "Password"
USER_PASSWORD_INFO = "At least 8 characters"
USER_ROLES = "Roles"
USER_ADD = "Add user"
USER_REMOVE = "Remove user"
USER_PICK = "User"
KEYS = "API keys"
KEYS_EMPTY = (
    "No keys yet. A key lets a program use /v1 and /api; people sign in as users, so add those first."
)
KEY_NAME = "Name"
KEY_CREATE = "Create key"
KEY_REVOKE = "Revoke key"
KEY_PICK = "Key"
KEY_SECRET = "Copy the secret now: it is shown once and not stored."
USAGE = "Used this month"
USAGE_EMPTY = "Nobody has asked anything this month."
ROLES = (("chat: talk", "chat"), ("rater: compare and vote", "rater"), ("ops: everything", "ops"))

SNAPSHOTS = "Snapshots"
SNAPSHOTS_EMPTY = (
    "No snapshot yet. Each run freezes one, with a report of what went in and what was left out."
)
RATERS = "Raters"
RATERS_ALPHA = (
    "Krippendorff's alpha is {alpha} over {comparisons} comparisons with {votes} votes: "
    "1 is full agreement, 0 what chance gives."
)
RATERS_NO_ALPHA = "No comparison has two votes yet, so agreement can't be computed."
RATERS_HINT = (
    "Agreement is with the majority of the others on the same comparison; flags ask a person to look."
)
ERASE = "Erase a person"
ERASE_HINT = (
    "Deletes what they wrote and voted and everything derived from it, for good, and lists the releases that "
    "learned from it. Works for any name in the store, also of people without an account."
)
ERASE_NAME = "Name"
ERASE_AGAIN = "Type the name again"
ERASE_DIFFERS = "the two names differ, so nothing was deleted"
ERASE_WHOM = "enter the name of the person to erase"
ERASE_PREVIEW = "See what would go"
ERASE_DO = "Delete for good"
ERASE_WOULD = "Nothing is deleted yet. These rows would go: {removed}."
ERASE_DONE = "Done. These rows are gone: {removed}."
ERASE_NOTHING = "none"
ERASE_LEARNED = "Releases that learned from it; retrain without it or roll them back:"
ERASE_OTHERS = "Of these, other people gave {counts}: they are on what this person asked or wrote."
ERASE_RUNS = "Runs whose data held rows of theirs:"
ERASE_WOULD_STOP = "Runs that would be stopped, since they are to learn from them:"
ERASE_STOPPED = "Runs that were stopped, since they were to learn from them; ask for them anew:"
ERASE_FLAGGED = "Releases that learned from something erased since"
AUDIT_EMPTY = "Nothing recorded yet. Promotions, roll-backs, keys and imports appear here with who did them."

# ---- ops: first steps, evidence, trees, commands
STEPS = "First time through"
STEPS_DONE = "{done} of {of} done"
STEP_TEXTS = {
    "chat": ("Chat", "Ask the model something, so that there is traffic.", "./"),
    "rank": ("Rank ten comparisons", "Say which of two answers is better; each vote makes a pair.", "./rank"),
    "train": ("Train", "Start a run in the Training tab; its defaults are fine.", ""),
    "look": ("Look at the report", "Open the report of the run's evaluation in the Releases tab.", ""),
    "roll_out": ("Roll out", "Give the new release a share of the traffic with the form below.", ""),
}
STEP_STATES = {"done": "Done", "next": "Next", "ahead": "Later"}
NEXT_RUN = "Next run"
NEXT_RUN_OFF = "only by hand"
NEXT_RUN_ROWS = "{have} of {every} rows waiting"
NEXT_RUN_WAITING = "{have} rows waiting"
NEXT_RUN_AT_ROWS = "at {every} rows"
EVIDENCE_PLOT = "The canary's win rate over time: now {rate}, between {low} and {high}"
COMMAND_LINE = "Command line"
COMMAND_ENDED = "Ctrl-C ends"
OVERLAY = "Runs in one plot"
OVERLAY_RUNS = "Runs"
OVERLAY_RUNS_INFO = "Up to {most}."
OVERLAY_METRIC = "Figure"
OVERLAY_METRICS = (
    ("Loss", "loss"),
    ("Reward margin", "rewards/margins"),
    ("Accuracy", "rewards/accuracies"),
    ("Token accuracy", "mean_token_accuracy"),
    ("Learning rate", "learning_rate"),
)
OVERLAY_NONE = "None of these runs has logged this figure."
TREE = "Where releases come from"
TREE_MADE = {
    "base": "the base model",
    "prompt": "prompt or sampling of {parents} changed",
    "training": "trained from {parents}",
    "blend": "combined from {parents}",
}
TREE_TRAINED_BASE = "trained from the base model"
DIFF = "Differences"
DIFF_HINT = "Configuration, training and system prompt of two releases."
DIFF_AGAINST = "Compared with"
DIFF_SHOW = "Show differences"
DIFF_EMPTY = "Pick two releases to see what changed between them."
DIFF_NONE = "They differ in nothing."
DIFF_FIELD = "Field"
DIFF_PROMPT = "System prompt"
AUDIT_ACTOR = "Who"
AUDIT_ACTION = "What"
AUDIT_TEXT = "Search"
AUDIT_TEXT_PLACEHOLDER = "a subject, a reason, a word"
AUDIT_SINCE = "From day"
AUDIT_UNTIL = "To day"
AUDIT_DAY = "YYYY-MM-DD"
AUDIT_ALL = "all"
AUDIT_NOTHING = "Nothing in the log fits these filters."

# ---- ops: curate
CURATE = "Find rows"
CURATE_HINT = "Search the training data, read rows, and leave out or approve them with a reason. Everything can be undone."
CURATE_VIEW = "Saved view"
CURATE_VIEW_NONE = "none"
CURATE_KIND = "Rows"
CURATE_TEXT = "Words"
CURATE_TEXT_PLACEHOLDER = "every word, in prompt or response"
CURATE_STATE = "State"
CURATE_STATES = (
    ("all", ""),
    ("not looked at", "unreviewed"),
    ("approved", "approved"),
    ("excluded", "excluded"),
)
CURATE_MORE = "More filters, and saving them"
CURATE_SOURCE = "Source"
CURATE_RATER = "Person behind it"
CURATE_RELEASE = "Answer of release"
CURATE_TAG = "Tag"
CURATE_LANGUAGE = "Language"
CURATE_LANGUAGE_PLACEHOLDER = "such as en, de, fr"
CURATE_DEPLOYMENT = "Deployment"
CURATE_MIN_CHARS = "Least characters"
CURATE_MAX_CHARS = "Most characters"
CURATE_MIN_AGREEMENT = "Least agreement"
CURATE_MAX_AGREEMENT = "Most agreement"
CURATE_AGREEMENT_PLACEHOLDER = "0 to 1"
CURATE_SINCE = "From day"
CURATE_UNTIL = "To day"
CURATE_SEARCH = "Search"
CURATE_VIEW_NAME = "Name of the view"
CURATE_SAVE = "Save view"
CURATE_REMOVE = "Delete view"
CURATE_SAVED = "The view {name} is saved."
CURATE_REMOVED = "The view {name} is deleted."
CURATE_NO_NAME = "Name the view first."
CURATE_ROWS = "Rows"
CURATE_COUNT = "{shown} of {total} rows"
CURATE_COUNT_OPEN = "{shown} rows"
CURATE_EMPTY_TITLE = "No row fits"
CURATE_EMPTY = "Take filters away, or import rows in the Data tab; votes in Rank make pairs."
CURATE_CHOOSE = "Choose row {id}"
CURATE_CHOOSE_ALL = "Choose all on this page"
CURATE_LINEAGE = "Lineage"
CURATE_NEXT = "Next page"
CURATE_FIRST = "First page"
CURATE_REVIEW = "Review the chosen rows"
CURATE_REVIEW_HINT = (
    "Excluded rows are in no later training set or export; approved ones are marked as looked at."
)
CURATE_REASON = "Reason"
CURATE_REASON_INFO = "Kept with the rows and in the audit log."
CURATE_ALL = "All rows that the search finds, not only the chosen ones"
CURATE_EXCLUDE = "Exclude"
CURATE_APPROVE = "Approve"
CURATE_RESTORE = "Undo"
CURATE_NO_REASON = "Write a reason first."
CURATE_NO_ROWS = "Choose rows first, or tick that all rows of the search are meant."
CURATE_DONE = "{count} rows changed."
CURATE_STATE_TONES = {"excluded": "bad", "approved": "good"}
CURATE_LIKED = "Liked"
CURATE_DISLIKED = "Disliked"
CURATE_LINEAGE_TITLE = "Lineage of {id}"
CURATE_EVIDENCE_HEADS = ("What", "Who", "Choice", "Release", "When")
CURATE_IMPORTED = "Imported"
CURATE_IMPORTED_FROM = "from {source}, by {by}"
CURATE_SNAPSHOTS = "In snapshots"
CURATE_RELEASES = "Releases that learned from it"
CURATE_HISTORY = "Reviews"
CURATE_HISTORY_HEADS = ("When", "Who", "What", "Reason")
CURATE_NONE = "none"
CURATE_REPORT = "Data report"
CURATE_REPORT_HINT = "What the search finds, as plots; the language is not looked at."
CURATE_REPORT_SHOW = "Draw the report"
CURATE_REPORT_EMPTY = "Draw it to see lengths, sources, agreement and people."
CURATE_LENGTHS = "Characters"
CURATE_PARTS = {"prompt": "Prompt", "chosen": "Chosen", "rejected": "Rejected", "completion": "Completion"}
CURATE_SOURCES = "Sources"
CURATE_AGREEMENT = "Agreement, of questions that several judged"
CURATE_PEOPLE = "People behind the rows"
CURATE_STATES_PLOT = "Reviews"
CURATE_LEFT_OUT = "Left out of the newest snapshot ({snapshot}), and why"
CURATE_LEFT_OUT_NONE = "The newest snapshot left nothing out."
CURATE_LONGER = "The longer answer was chosen in {share} of the pairs."
