-- Where the value of the one top-level "model" of a JSON object is, without parsing the rest.
-- For every text that is JSON the answer is the one of a parser, or a refusal. Refused is whatever parsers
-- could disagree on: a doubled "model", one in other letter case (some parsers do not tell them apart),
-- escapes in a top-level key (it may spell "model"), text before or after the object.
local find, sub, byte, lower = string.find, string.sub, string.byte, string.lower
local QUOTE, BACKSLASH, OPEN_BRACE, OPEN_BRACKET = 34, 92, 123, 91

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

-- Walks through an object whose first character after the brace is at `position`, and calls `on_key` with the position
-- of each of its keys, of the key's closing quote and of the value. It returns where to go on, if not at the value, or
-- false and why not to. The walk returns the position after the object, or nil and why it is none.
local function walk(text, position, on_key)
  local depth = 1
  while depth > 0 do
    local at = find(text, '[{}%[%]"]', position)
    if not at then return nil, "The request body is not valid JSON." end
    local char = byte(text, at)
    position = at + 1
    if char == QUOTE then
      local close = string_end(text, position)
      if not close then return nil, "The request body is not valid JSON." end
      position = close + 1
      local _, colon = nil, nil
      if depth == 1 then _, colon = find(text, "^[ \t\r\n]*:[ \t\r\n]*", position) end
      if colon then
        local onward, why = on_key(at + 1, close - 1, colon + 1)
        if onward == false then return nil, why end
        if onward then position = onward end
      end
    elseif char == OPEN_BRACE or char == OPEN_BRACKET then
      depth = depth + 1
    else
      depth = depth - 1
    end
  end
  return position
end

-- First and last position of the value, without its quotes; or nil and why there is none. Where the values of other
-- keys begin is put into `others`, for those that it has as `false`; they are refused when they are doubled, too.
local function locate(text, others)
  local _, start = find(text, "^[ \t\r\n]*{")
  if not start then return nil, "The request body must be a JSON object." end
  local first, last = nil, nil
  local position, why = walk(text, start + 1, function(from, to, value)
    local key = sub(text, from, to)
    if find(key, "\\", 1, true) then
      return false, "The request body must not have escapes in its top-level keys."
    end
    local length = to - from + 1
    if length == 5 and lower(key) == "model" then
      if first or key ~= "model" then return false, "The request body must have exactly one 'model'." end
      if byte(text, value) ~= QUOTE then return false, "'model' must be a string." end
      local close = string_end(text, value + 1)
      if not close then return false, "The request body is not valid JSON." end
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
  if not find(text, "^[ \t\r\n]*$", position) then return nil, "The request body is not valid JSON." end
  if not first then return nil, "You must provide a model parameter." end
  return first, last
end
