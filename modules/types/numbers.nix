# Numbers and sizes, in the units that the options have.
{ lib }:
let
  inherit (import ./checked.nix { inherit lib; }) checked checkedString firstOf;
  inherit (builtins)
    isInt
    isString
    match
    toString
    ;

  factors = {
    "" = 1;
    K = 1024;
    M = 1024 * 1024;
    G = 1024 * 1024 * 1024;
    T = 1024 * 1024 * 1024 * 1024;
  };
  # "4G", "4 GiB", "4096MB" → bytes; null for anything else.
  bytesOf =
    text:
    let
      parts = match "([0-9]+) *([KMGTkmgt]?)(i?[Bb])?" text;
      digits = builtins.head parts;
      unit = lib.toUpper (builtins.elemAt parts 1);
      # The largest number in Nix.
      most =
        {
          "" = 18;
          K = 15;
          M = 12;
          G = 9;
          T = 6;
        }
        .${unit};
    in
    if parts == null || builtins.stringLength digits > most then
      null
    else
      lib.toIntBase10 digits * factors.${unit};
in
rec {
  inherit bytesOf;

  /**
    Whole number from `least` to `most`, of what `unit` says.
  */
  numberFrom =
    {
      least,
      most,
      unit,
      example,
    }:
    checked {
      description = "${unit}, a whole number from ${toString least} to ${toString most}";
      wrong =
        value:
        firstOf [
          {
            broken = isString value && match "[0-9]{1,9}" value != null;
            why = "a string where a number is needed";
            write = toString (lib.toIntBase10 value);
          }
          {
            broken = !isInt value;
            why = "which is no whole number (${unit})";
            write = toString example;
          }
          {
            broken = value < least || value > most;
            why = "but ${unit} go from ${toString least} to ${toString most}";
            write = toString example;
          }
        ];
    };

  /**
    TCP port that something listens on.
  */
  port =
    let
      number = numberFrom {
        least = 1;
        most = 65535;
        unit = "ports";
        example = 8000;
      };
    in
    number // { description = "TCP port, from 1 to 65535"; };

  /**
    Size in MiB from `least` to `most`.
  */
  mebibytes =
    {
      least,
      most,
      example,
    }:
    checked {
      description = "size in MiB, from ${toString least} to ${toString most}";
      wrong =
        value:
        let
          bytes = if isString value then bytesOf value else null;
          fits = mebibytes: least <= mebibytes && mebibytes <= most;
          orExample = mebibytes: toString (if fits mebibytes then mebibytes else example);
        in
        firstOf [
          {
            broken = bytes != null;
            why = "a string where a number of MiB is needed";
            write = orExample (if bytes < factors.M then bytes else bytes / factors.M);
          }
          {
            broken = !isInt value;
            why = "which is no whole number of MiB";
            write = toString example;
          }
          {
            broken = value < least;
            why = "but it counts MiB and has to be ${toString least} at least";
            write = orExample (value * 1024);
          }
          {
            broken = value > most;
            why = "but it counts MiB and can be ${toString most} at most";
            write = orExample (value / factors.M);
          }
        ];
    };

  /**
    Type of calendar expressions. What systemd reads as none is seen by how it begins: times of day, dates, days of the week and
    words such as weekly.
  */
  calendar =
    let
      day = "(mon|tue|wed|thu|fri|sat|sun)[a-z]*";
      word = "(minutely|hourly|daily|weekly|monthly|quarterly|semiannually|yearly|annually)";
      date = "[0-9*][0-9*,:/.~-]*";
    in
    checkedString {
      description = "calendar expression of systemd.time(7)";
      example = "\"weekly\"";
      wrong =
        value:
        let
          first = lib.head (lib.splitString " " (lib.toLower value));
        in
        if
          match "${word}|${date}|@[0-9]+|${day}([,.-]+${day})*" first != null && match "[0-9]+" first == null
        then
          null
        else
          {
            why = "which is no calendar expression of systemd.time(7)";
            write = "\"weekly\"";
          };
    };

  /**
    Time in seconds.
  */
  seconds =
    example:
    checked {
      description = "time in seconds, a whole number from 1";
      wrong =
        value:
        let
          parts = if isString value then match "([0-9]{1,6}) *(s|sec|m|min|h)?" value else null;
          unit = toString (builtins.elemAt parts 1);
          factor =
            if lib.hasPrefix "m" unit then
              60
            else if unit == "h" then
              3600
            else
              1;
        in
        firstOf [
          {
            broken = parts != null;
            why = "a string where a number of seconds is needed";
            write = toString (lib.max 1 (lib.toIntBase10 (builtins.head parts) * factor));
          }
          {
            broken = !isInt value || value < 1;
            why = "which is no number of seconds";
            write = toString example;
          }
        ];
    };

  /**
    Limit of memory as systemd.resource-control(5) has it; `percent`: whether part of the host's memory is one, too.
  */
  memoryLimit =
    { percent }:
    checked {
      description = ''limit of memory such as "2G"${lib.optionalString percent ", or part of the host's such as \"50%\""}'';
      wrong =
        value:
        let
          bytes = if isString value then bytesOf value else null;
          isLimit = isString value && match "[0-9]{1,12}[KMGT]?" value != null;
          isOther = percent && isString value && match "([1-9][0-9]?|100)%|infinity" value != null;
          # A number without a unit more often means MiB than bytes.
          withUnit = number: ''"${toString number}M"'';
        in
        if isOther then
          null
        else
          firstOf [
            {
              broken = isInt value;
              why = "a number without a unit";
              write = withUnit value;
            }
            {
              broken = bytes != null && !isLimit;
              why = "which systemd does not read: K, M, G or T follows the number";
              write = ''"${lib.head (match "([0-9]+).*" value)}${lib.toUpper (toString (lib.elemAt (match "[0-9]+ *([KMGTkmgt])?.*" value) 0))}"'';
            }
            {
              broken = bytes == null;
              why = "which is no limit of memory";
              write = ''"2G"'';
            }
            {
              broken = bytes < 64 * factors.M;
              why = "with which nothing starts: the least is 64M";
              write = if match "[0-9]+" value != null && bytes >= 64 then ''"${value}M"'' else ''"2G"'';
            }
          ];
    };

  /**
    Limit of processor time as systemd.resource-control(5) has it.
  */
  cpuQuota = checked {
    description = ''processor time such as "150%", 100% for each processor'';
    wrong =
      value:
      firstOf [
        {
          broken = isInt value;
          why = "a number without %: 100% is one processor";
          write = ''"${
            toString (
              if value < 1 then
                100
              else if value <= 32 then
                value * 100
              else
                value
            )
          }%"'';
        }
        {
          broken = !isString value || match "[1-9][0-9]{0,6}%" value == null;
          why = "which is no part of a processor's time: 100% is one processor";
          write =
            if isString value && match "[1-9][0-9]{0,1}" value != null then
              ''"${toString (lib.toIntBase10 value * 100)}%"''
            else
              ''"150%"'';
        }
      ];
  };
}
