# Stored settings of a machine → the same with what is declared anew. $declared: what is declared now; $last: what was
# when this was done last. What somebody changed by hand since then stays, unless its declaration changed too.
($last[0] // {}) as $last
| $declared[0] as $declared
| def differs($key): $declared[$key] != $last[$key];
  reduce ($declared | keys[] | select(differs(.))) as $key (.;
    if $key == "disk" then .
    elif $key == "egress" then .egress.mode = $declared.egress
    elif $key == "allow" then .egress.allow = ((.egress.allow // []) - ($last.allow // []) + $declared.allow | unique)
    else .[$key] = $declared[$key]
    end)
| reduce ("port", "ssh_port") as $key (.;
    if $declared[$key] then .[$key + "_asked"] = true
    elif $last[$key] then .[$key + "_asked"] = false
    else .
    end)
