-- Where the value of the one top-level "model" of a JSON object is, without parsing the rest.
-- For every text that is JSON the answer is the one of a parser, or a refusal. Refused is whatever parsers
-- could disagree on: a doubled "model", one in other letter case (Go's parser, for one, does not tell them apart), a
-- top-level key with escapes or anything but ASCII (it may spell "model", or be taken for it by a parser that folds
-- letters or leaves out what is no UTF-8), text before or after the object, and outside of strings what only lenient
-- parsers know: comments, other quotes, names without quotes. Within nested values nothing else is looked at.
local find, sub, byte, lower = string.find, string.sub, string.byte, string.lower
local QUOTE, BACKSLASH, OPEN_BRACE, OPEN_BRACKET, CLOSE_BRACE, CLOSE_BRACKET = 34, 92, 123, 91, 125, 93
local INVALID = "The request body is not valid JSON."
-- What a key has that may be another one to some parser.
local NOT_PLAIN = "[%c\\\128-\255]"

-- The closing quote of the string whose first character is at `from`.
local function string_end(text, from)
  local first = from
  while true do
    local quote = find(text, '"', from, true)
    if not quote then return nil end
    local before = quote - 1
    while before >= first and byte(text, before) == BACKSLASH do before = before - 1 end
    if (quote - before) % 2 == 1 then return quote end
    from = quote + 1
  end
end

-- The position after the value that begins at `position`, or nil.
local function value_end(text, position)
  local char = byte(text, position)
  if char ~= OPEN_BRACE and char ~= OPEN_BRACKET then
    local last = nil
    if char == QUOTE then
      last = string_end(text, position + 1)
    else
      _, last = find(text, "^[%w.+-]+", position)
    end
    return last and last + 1
  end
  local depth = 0
  repeat
    local at = find(text, "[{}%[%]\"'/#]", position)
    if not at then return nil end
    char = byte(text, at)
    position = at + 1
    if char == QUOTE then
      local close = string_end(text, position)
      if not close then return nil end
      position = close + 1
    elseif char == OPEN_BRACE or char == OPEN_BRACKET then
      depth = depth + 1
    elseif char == CLOSE_BRACE or char == CLOSE_BRACKET then
      depth = depth - 1
    else
      return nil
    end
  until depth == 0
  return position
end

-- Walks through an object whose first character after the brace is at `position`, and calls `on_key` with the position
-- of each of its keys, of the key's last character and of the value. It returns the position after the value, if it
-- knows, or false and why not to go on. The walk returns the position after the object, or nil and why it is none.
local function walk(text, position, on_key)
  local _, last = find(text, "^[ \t\r\n]*}", position)
  if last then return last + 1 end
  _, last = find(text, "^[ \t\r\n]*", position)
  while last do
    position = last + 1
    local close = byte(text, position) == QUOTE and string_end(text, position + 1)
    local colon = nil
    if close then _, colon = find(text, "^[ \t\r\n]*:[ \t\r\n]*", close + 1) end
    if not colon then break end
    local after, why = on_key(position + 1, close - 1, colon + 1)
    if after == false then return nil, why end
    after = after or value_end(text, colon + 1)
    if not after then break end
    _, last = find(text, "^[ \t\r\n]*,[ \t\r\n]*", after)
    if not last then
      _, last = find(text, "^[ \t\r\n]*}", after)
      if last then return last + 1 end
    end
  end
  return nil, INVALID
end

-- First and last position of the value, without its quotes; or nil and why there is none. Where the values of other
-- keys begin is put into `others`, for those that it has as `false`; they are refused when they are doubled, too.
local function locate(text, others)
  local _, start = find(text, "^[ \t\r\n]*{")
  if not start then return nil, "The request body must be a JSON object." end
  local first, last = nil, nil
  local position, why = walk(text, start + 1, function(from, to, value)
    local key = sub(text, from, to)
    if find(key, NOT_PLAIN) then
      return false, "The request body must have plain ASCII without escapes in its top-level keys."
    end
    local length = to - from + 1
    if length == 5 and lower(key) == "model" then
      if first or key ~= "model" then return false, "The request body must have exactly one 'model'." end
      if byte(text, value) ~= QUOTE then return false, "'model' must be a string." end
      local close = string_end(text, value + 1)
      if not close then return false, INVALID end
      first, last = value + 1, close - 1
      return close + 1
    end
    if others and (length == 6 or length == 14) then
      local name = lower(key)
      if others[name] ~= nil then
        if others[name] or key ~= name then
          return false, "The request body must have no more than one '" .. name .. "'."
        end
        others[name] = value
      end
    end
  end)
  if not position then return nil, why end
  if not find(text, "^[ \t\r\n]*$", position) then return nil, INVALID end
  if not first then return nil, "You must provide a model parameter." end
  return first, last
end
