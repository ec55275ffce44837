# Sourced by test scripts: steps that are counted. The script sets `work`, a directory of its own.
passed=0
failed=0
status=0

# step NAME COMMAND...: runs the command and counts it; its output is shown if it fails. `status` is the command's. Neither
# the command nor the step is a condition, of an `if` or before `||`, since bash would ignore `set -e` in all of it.
step() {
    local name=$1
    shift
    set +e
    (
        set -e
        "$@"
    ) >"$work/log" 2>&1
    status=$?
    set -e
    if ((status == 0)); then
        passed=$((passed + 1))
        echo "ok      $name"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
        sed 's/^/        /' "$work/log"
    fi
}

# Says how many steps passed; its status is 0 if none failed.
report() {
    echo "$passed passed, $failed failed"
    ((failed == 0))
}
