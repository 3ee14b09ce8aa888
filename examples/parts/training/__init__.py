"""The parts of train.py, one concept each, in reading order.

Options
    defaults            the paper's recipe, and that of the built-in shapes
    options             every option and its help
    recipe              the recipe for small data: values and their reasons
    arguments           options that were read and checked, with what follows from them
    length              how long a run is: steps, or minutes
Data
    training_data       opens and checks the data sets
    readable_samples    replaces images that cannot be read
    batches             endless batches in their order, on the device
Model
    model               builds the model, with its weights
    training_step       images in, losses out: what is compiled
    forward_backward    gradients of a step, in parts, over all processes
    training_state      weights, their average, optimizer, schedule
    processes           the processes that train together
    step_outcome        two sums over all processes: so all decide the same
What may go wrong
    bad_batches         losses that are not finite
    unreadable_images   images that could not be read: counted, with a limit
    stop                signals that end a run after its step
    error_message       the last line of a run that fails
Checkpoints
    run_state           everything that changes in a run
    random_states       states of the random generators
    checkpoint_files    whole files on the disk, damaged ones found
    checkpoint_saver    writes them when they are due
    checkpoint_checks   checks their entries before a run uses them
    resuming            whether a run goes on with a checkpoint
Output
    run_directory       the directory --output
    run_lock            one run at a time uses it
    run_log             progress bar, metrics.jsonl, plot
    loggers/            TensorBoard, Weights & Biases, MLflow, Trackio
    step_log            what the log says of a step
    memory              the peak memory of a process
    evaluation          figures and pictures of the validation set
    pictures            draws images with boxes
    dry_run             checks everything, writes nothing
"""
